//! PX4's land detector for multicopters: ground contact, perhaps landed, landed; each a third of a second after the
//! one before (`land_detector/MulticopterLandDetector.cpp`, `LandDetector.cpp`).
//!
//! What a companion that commands motors has to know: the detector knows no motor. It takes the throttle from
//! `vehicle_thrust_setpoint`, which in direct motor control nobody publishes but the companion. Without it the throttle
//! reads zero, and a calm hover is landed after one second.

use nalgebra::Vector3;
use spikewing_runtime::{Span, Time};

/// LNDMC_Z_VEL_MAX, m/s.
const Z_VELOCITY_MAX: f64 = 0.25;
/// LNDMC_XY_VEL_MAX, m/s.
const XY_VELOCITY_MAX: f64 = 1.5;
/// LNDMC_ROT_MAX, rad/s.
const ROTATION_MAX: f64 = 20.0 * std::f64::consts::PI / 180.0;
/// Whoever is landed may move this much more before he is no longer.
const LANDED_MARGIN: f64 = 2.5;
/// MPC_THR_MIN.
const THROTTLE_MIN: f64 = 0.12;
/// MPC_MANTHR_MIN plus the detector's own hundredth.
const MANUAL_THROTTLE_MIN: f64 = 0.08 + 0.01;
/// Share of the range from MPC_THR_MIN to hover that is low, with a valid estimate of the hover thrust.
const LOW_SHARE: f64 = 0.6;
/// The same for the least thrust, where PX4 controls the climb rate.
const LEAST_SHARE: f64 = 0.1;
/// Specific force below which the vehicle falls, m/s².
const FREE_FALL: f64 = 2.0;
/// One second in three steps, without a range finder.
const STEP: Span = Span::from_millis(333);
const FREE_FALL_TIME: Span = Span::from_millis(300);

/// A condition that must hold for a time before it is believed, and is dropped at once (PX4's `Hysteresis` with a time
/// from false alone).
#[derive(Clone, Copy, Debug)]
pub struct Lasting {
    state: bool,
    wanted_since: Option<Time>,
}

impl Lasting {
    /// In that state.
    pub fn new(state: bool) -> Self {
        Self { state, wanted_since: None }
    }

    /// The condition now, which must hold for `rise`; returns what is believed.
    pub fn update(&mut self, now: Time, condition: bool, rise: Span) -> bool {
        if !condition {
            *self = Self::new(false);
        } else if !self.state {
            let since = *self.wanted_since.get_or_insert(now);
            self.state = now - since >= rise;
        }
        self.state
    }

    /// What is believed.
    pub fn holds(&self) -> bool {
        self.state
    }
}

/// What the detector goes by.
#[derive(Clone, Copy, Debug)]
pub struct Senses {
    /// Whether the vehicle is armed; a disarmed one has landed.
    pub armed: bool,
    /// Whether PX4 controls the climb rate (its own modes), and not the companion its motors.
    pub climb_rate_controlled: bool,
    /// Whether PX4 itself descends.
    pub descends: bool,
    /// Minus z of the last `vehicle_thrust_setpoint`, whoever wrote it and however long ago.
    pub throttle: f64,
    /// Throttle at hover.
    pub hover_throttle: f64,
    /// Velocity as PX4 estimates it, world, m/s.
    pub velocity: Vector3<f64>,
    /// Body rates, rad/s.
    pub body_rates: Vector3<f64>,
    /// Norm of the specific force, m/s².
    pub specific_force: f64,
}

/// What the detector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// On the ground.
    pub landed: bool,
    /// Most likely on the ground.
    pub maybe_landed: bool,
    /// Touches the ground.
    pub ground_contact: bool,
    /// Falls.
    pub freefall: bool,
    /// The throttle is low.
    pub has_low_throttle: bool,
    /// Moves up or down.
    pub vertical_movement: bool,
    /// Moves sideways.
    pub horizontal_movement: bool,
    /// Turns, yaw aside.
    pub rotational_movement: bool,
    /// PX4 descends.
    pub in_descend: bool,
}

/// The detector.
#[derive(Clone, Debug)]
pub struct LandDetector {
    freefall: Lasting,
    ground_contact: Lasting,
    maybe_landed: Lasting,
    landed: Lasting,
}

impl Default for LandDetector {
    fn default() -> Self {
        Self {
            freefall: Lasting::new(false),
            ground_contact: Lasting::new(true),
            maybe_landed: Lasting::new(true),
            landed: Lasting::new(true),
        }
    }
}

impl LandDetector {
    /// Time goes on.
    pub fn update(&mut self, now: Time, senses: &Senses) -> Landing {
        let margin = if self.landed.holds() { LANDED_MARGIN } else { 1.0 };
        let range = senses.hover_throttle - THROTTLE_MIN;
        let vertical_movement = senses.velocity.z.abs() >= Z_VELOCITY_MAX * margin;
        let horizontal_movement = senses.velocity.xy().norm() > XY_VELOCITY_MAX;
        let rotational_movement = senses.body_rates.xy().norm() > ROTATION_MAX * margin;
        let has_low_throttle = senses.throttle <= THROTTLE_MIN + range * LOW_SHARE;

        let freefall = self.freefall.update(now, senses.specific_force < FREE_FALL, FREE_FALL_TIME);
        // Where PX4 controls the climb rate, contact wants a descent that it commands, until landed.
        let commanded = !senses.climb_rate_controlled
            || senses.descends
            || self.maybe_landed.holds()
            || self.landed.holds();
        let contact = has_low_throttle && commanded && !horizontal_movement && !vertical_movement;
        let ground_contact = self.ground_contact.update(now, !senses.armed || contact, STEP);
        let least = if senses.climb_rate_controlled {
            THROTTLE_MIN + range * LEAST_SHARE
        } else {
            MANUAL_THROTTLE_MIN
        };
        let perhaps = senses.throttle <= least && !freefall && !rotational_movement && ground_contact;
        let maybe_landed = self.maybe_landed.update(now, !senses.armed || perhaps, STEP);
        let landed = self.landed.update(now, !senses.armed || maybe_landed, STEP);
        Landing {
            landed,
            maybe_landed,
            ground_contact,
            freefall,
            has_low_throttle,
            vertical_movement,
            horizontal_movement,
            rotational_movement,
            in_descend: senses.descends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Senses = Senses {
        armed: true,
        climb_rate_controlled: false,
        descends: false,
        throttle: 0.0,
        hover_throttle: 0.5,
        velocity: Vector3::new(0.0, 0.0, 0.0),
        body_rates: Vector3::new(0.0, 0.0, 0.0),
        specific_force: 9.81,
    };

    /// Detector in flight, after `ms` of these senses.
    fn after(ms: i64, senses: Senses) -> Landing {
        let mut detector = LandDetector::default();
        let at = |ms: i64| Time::from_nanoseconds(ms * 1_000_000);
        let flies = detector.update(at(0), &Senses { throttle: 0.5, ..CALM });
        assert!(!flies.landed && !flies.maybe_landed);
        (1..=ms / 10).map(|k| detector.update(at(10 * k), &senses)).last().unwrap_or(flies)
    }

    #[test]
    fn calm_and_without_throttle_is_landed_after_one_second() {
        assert!(!after(980, CALM).landed);
        assert!(after(1050, CALM).landed);
        assert!(after(400, CALM).ground_contact && !after(300, CALM).ground_contact);
    }

    #[test]
    fn throttle_motion_turning_and_falling_each_prevent_it() {
        for senses in [
            Senses { throttle: 0.1, ..CALM },
            Senses { velocity: Vector3::new(0.0, 0.0, 0.3), ..CALM },
            Senses { velocity: Vector3::new(1.6, 0.0, 0.0), ..CALM },
            Senses { body_rates: Vector3::new(0.0, 0.4, 0.0), ..CALM },
            Senses { specific_force: 1.0, ..CALM },
        ] {
            assert!(!after(5000, senses).landed, "{senses:?}");
        }
        // Yaw does not.
        assert!(after(5000, Senses { body_rates: Vector3::new(0.0, 0.0, 3.0), ..CALM }).landed);
    }

    #[test]
    fn in_its_own_modes_it_must_be_descending() {
        let own = Senses { climb_rate_controlled: true, ..CALM };
        assert!(!after(5000, own).landed);
        assert!(after(5000, Senses { descends: true, ..own }).landed);
    }

    #[test]
    fn disarmed_is_landed() {
        assert!(after(1050, Senses { armed: false, throttle: 0.9, ..CALM }).landed);
    }
}
