//! PX4's estimate jumps when its filter starts over; the vehicle does not.
//!
//! `reset_counter` says so. In flight the jump of the position is taken out, so that the odometry goes on where it was: the
//! vehicle stays where it is and every setpoint moves along. Disarmed, PX4's own origin is taken.

use nalgebra::Vector3;
use spikewing_runtime::{Span, Time};

/// A jump is measured against a prediction from the sample before, which must not be older than this.
const BRIDGED: Span = Span::from_millis(200);

/// So long after a simulator was asked to move the vehicle a jump is the vehicle's own.
const PUT: Span = Span::from_millis(1000);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    counter: u8,
    /// As PX4 gave them, world NED.
    position: Vector3<f64>,
    velocity: Vector3<f64>,
}

/// Where our origin lies in PX4's frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    last: Option<Sample>,
    shift: Vector3<f64>,
    /// When a simulator was last asked to move the vehicle.
    put: Option<Time>,
}

/// Whether the vehicle may fly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footing {
    /// Motors off: PX4's origin holds.
    Disarmed,
    /// In flight, or about to: the odometry must not jump.
    Armed,
}

impl Origin {
    /// A simulator was asked to put the vehicle somewhere.
    pub fn vehicle_is_put(&mut self, now: Time) {
        self.put = Some(now);
    }

    /// PX4's position in our frame, both NED, and the length of the jump that was taken out, if there was one.
    pub fn place(
        &mut self,
        at: Time,
        counter: u8,
        position: Vector3<f64>,
        velocity: Vector3<f64>,
        footing: Footing,
    ) -> (Vector3<f64>, Option<f64>) {
        let mut jumped = None;
        if footing == Footing::Disarmed || self.put.is_some_and(|put| at - put <= PUT) {
            self.shift = Vector3::zeros();
        } else if let Some(last) = self.last
            && last.counter != counter
            && at - last.at <= BRIDGED
        {
            let predicted = last.position + last.velocity * (at - last.at).seconds();
            let jump = position - predicted;
            self.shift += jump;
            jumped = Some(jump.norm());
        }
        self.last = Some(Sample { at, counter, position, velocity });
        (position - self.shift, jumped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_in_flight_is_taken_out_and_one_on_the_ground_is_not() {
        let mut origin = Origin::default();
        let at = |ms| Time::ZERO + Span::from_millis(ms);
        let (still, up) = (Vector3::zeros(), Vector3::new(0.0, 0.0, -1.0));
        assert_eq!(origin.place(at(0), 1, up, still, Footing::Disarmed), (up, None));
        let far = Vector3::new(5.0, 0.0, -1.0);
        assert_eq!(origin.place(at(10), 2, far, still, Footing::Disarmed), (far, None));
        assert_eq!(origin.place(at(20), 2, far, Vector3::x(), Footing::Armed), (far, None));
        // 10 ms later it is 1 cm on, and PX4 says 2 m to the east and 0.5 m lower.
        let jumped = Vector3::new(5.01, 2.0, -0.5);
        let (place, length) = origin.place(at(30), 3, jumped, Vector3::x(), Footing::Armed);
        assert!((place - Vector3::new(5.01, 0.0, -1.0)).norm() < 1e-9, "{place}");
        assert!((length.unwrap_or(0.0) - 4.25_f64.sqrt()).abs() < 1e-9);
        let (place, length) = origin.place(at(40), 3, jumped, Vector3::x(), Footing::Armed);
        assert!((place.y, length) == (0.0, None));
        assert_eq!(origin.place(at(50), 3, jumped, still, Footing::Disarmed), (jumped, None));
    }

    #[test]
    fn where_a_simulator_puts_the_vehicle_it_is() {
        let mut origin = Origin::default();
        let at = |ms| Time::ZERO + Span::from_millis(ms);
        let (still, up) = (Vector3::zeros(), Vector3::new(0.0, 0.0, -1.0));
        origin.place(at(0), 1, up, still, Footing::Armed);
        origin.vehicle_is_put(at(5));
        let there = Vector3::new(0.4, -0.3, -1.2);
        assert_eq!(origin.place(at(10), 2, there, still, Footing::Armed), (there, None));
        // A jump later is the estimate's again.
        assert!(origin.place(at(1500), 2, there, still, Footing::Armed).1.is_none());
        let (place, jumped) = origin.place(at(1510), 3, up, still, Footing::Armed);
        assert!((place - there).norm() < 1e-9 && jumped.is_some());
    }
}
