//! The fence, and the setpoint that is flown: finite, inside the fence, and moving no faster than it may.

use nalgebra::Vector3;

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
    at: Vector3<f64>,
    goal: Vector3<f64>,
    speed_m_s: f64,
}

impl Target {
    pub fn new(at: Vector3<f64>, speed_m_s: f64) -> Self {
        Self { at, goal: at, speed_m_s }
    }

    /// What is flown now, m.
    pub fn at(&self) -> &Vector3<f64> {
        &self.at
    }

    /// Where it goes, and from where a setpoint that wanders does so, m.
    pub fn goal(&self) -> &Vector3<f64> {
        &self.goal
    }

    /// Somebody wants the vehicle there: it goes there at its speed.
    pub fn aim(&mut self, goal: Vector3<f64>) {
        self.goal = goal;
    }

    /// It is there at once.
    pub fn put(&mut self, at: Vector3<f64>) {
        self.at = at;
    }

    /// Time goes on.
    pub fn advance(&mut self, dt_s: f64) {
        let way = self.goal - self.at;
        let step = self.speed_m_s * dt_s;
        if way.norm() <= step {
            self.at = self.goal;
        } else {
            self.at += way * (step / way.norm());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_goes_to_its_goal_at_its_speed() {
        let mut target = Target::new(Vector3::zeros(), 1.0);
        target.aim(Vector3::new(0.0, 3.0, 4.0));
        target.advance(1.0);
        assert!((target.at() - Vector3::new(0.0, 0.6, 0.8)).norm() < 1e-12);
        for _ in 0..5 {
            target.advance(1.0);
        }
        assert_eq!(target.at(), target.goal());
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
