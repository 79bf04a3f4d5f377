//! Where the vehicle is to be and which way it is to face, and what a policy sees of it then.
//!
//! A policy knows one heading: along the x axis of its observations. For another the observation is taken in the frame that is
//! turned by the wanted heading: the dynamics do not know where east is, so that a policy which holds heading zero in that
//! frame holds the wanted heading in the world, as well as it ever did.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};

use crate::state::{Observation, State, observation};

/// A forward axis whose horizontal part is shorter than this points nowhere.
const SHORTEST_FORWARD: f64 = 0.1;

/// Position and heading that are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setpoint {
    /// World (ENU), m.
    pub position: Vector3<f64>,
    /// Direction of the body's forward axis, rad about world z, 0 is east.
    pub heading_rad: f64,
}

/// Why a pose is no setpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetpointError {
    /// NaN or infinity.
    #[error("a number of the setpoint is not finite")]
    NotFinite,
    /// Of another length than one, and not all zero.
    #[error(
        "the setpoint's orientation is no unit quaternion; leave all four numbers zero to keep the heading"
    )]
    NoRotation,
    /// The forward axis points up or down.
    #[error("the setpoint's orientation has no heading: its forward axis is vertical")]
    NoHeading,
}

impl Setpoint {
    /// A position, facing east.
    pub fn at(position: Vector3<f64>) -> Self {
        Self { position, heading_rad: 0.0 }
    }

    /// From a pose: position (m) and orientation (x, y, z, w). The heading is that of the forward axis; an orientation of four
    /// zeros, as a message has that never set one, keeps this setpoint's heading.
    ///
    /// # Errors
    /// [`SetpointError`]; a pose that is refused should change nothing.
    pub fn moved_to(&self, position: [f64; 3], orientation: [f64; 4]) -> Result<Self, SetpointError> {
        if !position.iter().chain(&orientation).all(|v| v.is_finite()) {
            return Err(SetpointError::NotFinite);
        }
        let position = Vector3::from(position);
        if orientation == [0.0; 4] {
            return Ok(Self { position, ..*self });
        }
        let [x, y, z, w] = orientation;
        let q = Quaternion::new(w, x, y, z);
        if (q.norm() - 1.0).abs() > 0.1 {
            return Err(SetpointError::NoRotation);
        }
        let heading_rad = heading(&UnitQuaternion::new_normalize(q)).ok_or(SetpointError::NoHeading)?;
        Ok(Self { position, heading_rad })
    }

    /// The orientation of a level vehicle with this heading: x, y, z, w.
    pub fn orientation(&self) -> [f64; 4] {
        let (sine, cosine) = (0.5 * self.heading_rad).sin_cos();
        [0.0, 0.0, sine, cosine]
    }

    /// What a policy sees of a vehicle at `position` (m) with this orientation (body to world), velocity (world, m/s) and body
    /// rates (rad/s): position error, attitude and velocity in the frame of the wanted heading.
    pub fn observation(
        &self,
        position: &Vector3<f64>,
        orientation: &UnitQuaternion<f64>,
        velocity: &Vector3<f64>,
        body_rates: &Vector3<f64>,
    ) -> Observation {
        let error = position - self.position;
        match self.turn() {
            None => observation(&error, orientation, velocity, body_rates),
            Some(turn) => observation(&(turn * error), &(turn * orientation), &(turn * velocity), body_rates),
        }
    }

    /// [`Setpoint::observation`] of a state.
    pub fn observation_of(&self, state: &State) -> Observation {
        self.observation(&state.position, &state.orientation, &state.velocity, &state.body_rates)
    }

    /// A state in the frame of the wanted heading, and where the setpoint is in it.
    pub fn frame(&self, state: &State) -> (State, Vector3<f64>) {
        let Some(turn) = self.turn() else { return (*state, self.position) };
        let turned = State {
            position: turn * (state.position - self.position),
            orientation: turn * state.orientation,
            velocity: turn * state.velocity,
            ..*state
        };
        (turned, Vector3::zeros())
    }

    /// Into the frame of the wanted heading; none where that is the world's, to the last bit.
    fn turn(&self) -> Option<UnitQuaternion<f64>> {
        (self.heading_rad != 0.0)
            .then(|| UnitQuaternion::from_axis_angle(&Vector3::z_axis(), -self.heading_rad))
    }
}

/// Heading of a vehicle, rad about world z, 0 is east; none when its forward axis is vertical.
pub fn heading(orientation: &UnitQuaternion<f64>) -> Option<f64> {
    let forward = orientation * Vector3::x();
    (forward.xy().norm() > SHORTEST_FORWARD).then(|| forward.y.atan2(forward.x))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_2, PI};

    use proptest::prelude::*;

    use super::*;
    use crate::{Disturbance, Vehicle, step};

    const EAST: Setpoint = Setpoint { position: Vector3::new(0.0, 0.0, 1.0), heading_rad: 0.0 };

    #[test]
    fn the_heading_is_that_of_the_forward_axis() {
        let north = [0.0, 0.0, (PI / 4.0).sin(), (PI / 4.0).cos()];
        let s = EAST.moved_to([1.0, 2.0, 3.0], north).unwrap();
        assert!((s.heading_rad - FRAC_PI_2).abs() < 1e-12 && s.position == Vector3::new(1.0, 2.0, 3.0));
        assert_eq!(s.orientation(), north);
        // Without an orientation the heading stays.
        assert_eq!(s.moved_to([0.0; 3], [0.0; 4]).unwrap().heading_rad, s.heading_rad);
    }

    #[test]
    fn what_is_no_setpoint_is_refused_with_the_reason() {
        for (position, orientation, error) in [
            ([f64::NAN, 0.0, 0.0], [0.0; 4], SetpointError::NotFinite),
            ([0.0; 3], [0.0, f64::INFINITY, 0.0, 1.0], SetpointError::NotFinite),
            ([0.0; 3], [0.0, 0.0, 0.0, 2.0], SetpointError::NoRotation),
            (
                [0.0; 3],
                [0.0, -FRAC_PI_2.sin() / 2_f64.sqrt(), 0.0, 1.0 / 2_f64.sqrt()],
                SetpointError::NoHeading,
            ),
        ] {
            assert_eq!(EAST.moved_to(position, orientation).unwrap_err(), error, "{orientation:?}");
        }
    }

    proptest! {
        /// The world turned about z with the setpoint, the vehicle and its motion: nothing changes for a policy.
        #[test]
        fn a_policy_cannot_tell_where_east_is(
            turned in -PI..PI,
            start in prop::array::uniform3(-0.4..0.4_f64),
            axis in prop::array::uniform3(-1.0..1.0_f64),
            velocity in prop::array::uniform3(-1.0..1.0_f64),
            action in prop::array::uniform4(-1.0..1.0_f64),
        ) {
            let vehicle = Vehicle::find("crazyflie").unwrap();
            let mut here = State::hover(&vehicle, Vector3::from(start));
            here.orientation = UnitQuaternion::from_scaled_axis(Vector3::from(axis));
            here.velocity = Vector3::from(velocity);
            let turn = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), turned);
            let mut there = State {
                position: turn * here.position,
                orientation: turn * here.orientation,
                velocity: turn * here.velocity,
                ..here
            };
            let wanted = Setpoint { position: turn * EAST.position, heading_rad: turned };
            for _ in 0..20 {
                here = step(&vehicle, &here, &action, &Disturbance::default(), 0.01);
                there = step(&vehicle, &there, &action, &Disturbance::default(), 0.01);
                let (a, b) = (EAST.observation_of(&here), wanted.observation_of(&there));
                prop_assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?} {b:?}");
            }
        }
    }
}
