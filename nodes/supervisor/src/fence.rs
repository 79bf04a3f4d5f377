//! The fence, and the setpoint that is flown: finite, inside the fence, and moving no faster than it may.

use std::f64::consts::PI;

use nalgebra::Vector3;
use spikewing_quad::{Setpoint, setpoint::SetpointError};

/// An upright cylinder in which setpoints and flight stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fence {
    /// Its axis, m.
    pub center_m: [f64; 2],
    /// m
    pub radius_m: f64,
    /// Lowest height, m.
    pub floor_m: f64,
    /// Largest height, m.
    pub ceiling_m: f64,
}

impl Fence {
    /// How a position lies outside, in words; `None` inside.
    pub fn outside(&self, p: &Vector3<f64>) -> Option<&'static str> {
        let [x, y] = self.center_m;
        if !p.iter().all(|v| v.is_finite()) {
            Some("not finite")
        } else if (p.x - x).hypot(p.y - y) > self.radius_m {
            Some("beyond `fence.radius`")
        } else if p.z < self.floor_m {
            Some("below `fence.floor`")
        } else if p.z > self.ceiling_m {
            Some("above `fence.ceiling`")
        } else {
            None
        }
    }
}

/// The setpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    at: Setpoint,
    goal: Setpoint,
    speed_m_s: f64,
    turn_rad_s: f64,
    /// Whether somebody asked for a heading.
    heading_asked: bool,
}

impl Target {
    pub fn new(at: Vector3<f64>, speed_m_s: f64, turn_rad_s: f64) -> Self {
        let at = Setpoint::at(at);
        Self { at, goal: at, speed_m_s, turn_rad_s, heading_asked: false }
    }

    /// What is flown now, m.
    pub fn at(&self) -> &Vector3<f64> {
        &self.at.position
    }

    /// What is flown now, with its heading.
    pub fn setpoint(&self) -> &Setpoint {
        &self.at
    }

    /// Where it goes, and from where a setpoint that wanders does so, m.
    pub fn goal(&self) -> &Vector3<f64> {
        &self.goal.position
    }

    /// What a pose asks for: where it says no orientation, the heading stays.
    ///
    /// # Errors
    /// Why the pose is no setpoint.
    pub fn asked(&self, position: [f64; 3], orientation: [f64; 4]) -> Result<Setpoint, SetpointError> {
        self.goal.moved_to(position, orientation)
    }

    /// Somebody wants the vehicle there: it goes there at its speed.
    pub fn aim(&mut self, goal: Setpoint) {
        self.heading_asked = true;
        self.goal = goal;
    }

    /// It is there at once.
    pub fn put(&mut self, at: Vector3<f64>) {
        self.at.position = at;
    }

    /// Time does not matter: nothing flies yet.
    pub fn arrive(&mut self) {
        self.at = self.goal;
    }

    /// The vehicle starts with this heading: it keeps it until somebody asks for another.
    pub fn keep_heading(&mut self, heading_rad: f64) {
        if !self.heading_asked {
            self.at.heading_rad = heading_rad;
            self.goal.heading_rad = heading_rad;
        }
    }

    /// Time goes on.
    pub fn advance(&mut self, dt_s: f64) {
        let way = self.goal.position - self.at.position;
        let step = self.speed_m_s * dt_s;
        if way.norm() <= step {
            self.at.position = self.goal.position;
        } else {
            self.at.position += way * (step / way.norm());
        }
        // The short way round.
        let turn = (self.goal.heading_rad - self.at.heading_rad + PI).rem_euclid(2.0 * PI) - PI;
        let step = self.turn_rad_s * dt_s;
        if turn.abs() <= step {
            self.at.heading_rad = self.goal.heading_rad;
        } else {
            self.at.heading_rad += step.copysign(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_goes_to_its_goal_at_its_speed() {
        let mut target = Target::new(Vector3::zeros(), 1.0, 1.0);
        target.aim(Setpoint::at(Vector3::new(0.0, 3.0, 4.0)));
        target.advance(1.0);
        assert!((target.at() - Vector3::new(0.0, 0.6, 0.8)).norm() < 1e-12);
        for _ in 0..5 {
            target.advance(1.0);
        }
        assert_eq!(target.at(), target.goal());
    }

    #[test]
    fn the_heading_turns_the_short_way_at_its_rate() {
        let mut target = Target::new(Vector3::zeros(), 1.0, 0.5);
        target.keep_heading(3.0);
        target.aim(Setpoint { heading_rad: -3.0, ..*target.setpoint() });
        target.advance(0.4);
        assert!((target.setpoint().heading_rad - 3.2).abs() < 1e-12, "{target:?}");
        target.advance(0.4);
        assert_eq!(target.setpoint().heading_rad, -3.0);
        // Who asked for a heading keeps it, wherever the vehicle stands.
        target.keep_heading(1.0);
        assert_eq!(target.setpoint().heading_rad, -3.0);
    }

    #[test]
    fn each_side_of_the_fence_has_a_name() {
        let fence = Fence { center_m: [1.0, 0.0], radius_m: 2.0, floor_m: 0.0, ceiling_m: 3.0 };
        for (p, word) in [
            ([3.1, 0.0, 1.0], "radius"),
            ([0.0, 0.0, -0.1], "floor"),
            ([0.0, 0.0, 3.1], "ceiling"),
            ([f64::NAN, 0.0, 1.0], "finite"),
        ] {
            assert!(fence.outside(&Vector3::from(p)).unwrap_or("inside").contains(word), "{p:?}");
        }
        assert_eq!(fence.outside(&Vector3::new(2.9, 0.0, 1.0)), None);
    }
}
