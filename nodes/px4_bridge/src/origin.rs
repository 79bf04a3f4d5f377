//! PX4's estimate jumps when its filter starts over; the vehicle does not.
//!
//! `reset_counter` says so. In flight the jump of the position is taken out, so that the odometry goes on where it was: the
//! vehicle stays where it is and every setpoint moves along. Disarmed, PX4's own origin is taken.

use nalgebra::Vector3;
use spikewing_runtime::{Span, Time};

/// A jump is measured against a prediction from the sample before, which must not be older than this.
const BRIDGED: Span = Span::from_millis(200);

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
        if footing == Footing::Disarmed {
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
}
