//! The conditions of the study, each one change to an evaluation.

use spikewing_quad::{perturbation::Rhythm, protocol::Evaluation};

/// One change to the vehicle or to the flight, of an exact size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// None.
    Nothing,
    /// Factor of mass and inertia.
    Mass(f64),
    /// Factor of the motors' time constants, rising and falling.
    MotorLag(f64),
    /// Size of a constant torque about a random axis, N m.
    Torque(f64),
    /// Half width of each rotor's thrust factor.
    RotorThrust(f64),
    /// Control steps from command to motors.
    Latency(usize),
    /// Steps that follow each other so, and what is seen is so old, s.
    Timing(Rhythm, f64),
    /// Factor of the observation noise's standard deviations.
    Noise(f64),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// As in the table.
    pub name: &'static str,
    /// What is changed.
    pub change: Change,
}

/// All conditions, in the order of the table. A control step is 10 ms.
pub const CONDITIONS: [Condition; 19] = [
    of("nominal", Change::Nothing),
    of("mass -20 %", Change::Mass(0.8)),
    of("mass +20 %", Change::Mass(1.2)),
    of("motor lag -20 %", Change::MotorLag(0.8)),
    of("motor lag +20 %", Change::MotorLag(1.2)),
    of("motor lag x2", Change::MotorLag(2.0)),
    of("torque 0.1 N mm", Change::Torque(1e-4)),
    of("rotor thrust ±10 %", Change::RotorThrust(0.1)),
    of("latency 10 ms", Change::Latency(1)),
    of("latency 20 ms", Change::Latency(2)),
    of("latency 30 ms", Change::Latency(3)),
    of("steps 8 8 8 16 ms", Change::Timing(Rhythm::Px4, 0.0)),
    of("seen 10 ms late", Change::Timing(Rhythm::Even, 0.01)),
    of("seen 20 ms late", Change::Timing(Rhythm::Even, 0.02)),
    of("steps 8 8 8 16 ms and 20 ms late", Change::Timing(Rhythm::Px4, 0.02)),
    of("noise x0", Change::Noise(0.0)),
    of("noise x0.5", Change::Noise(0.5)),
    of("noise x1.5", Change::Noise(1.5)),
    of("noise x2", Change::Noise(2.0)),
];

const fn of(name: &'static str, change: Change) -> Condition {
    Condition { name, change }
}

impl Change {
    /// The evaluation with this change. Pilots made from the unchanged vehicle do not know.
    pub fn applied(self, nominal: &Evaluation) -> Evaluation {
        let mut evaluation = nominal.clone();
        let vehicle = &mut evaluation.vehicle;
        match self {
            Self::Nothing => {}
            Self::Mass(factor) => vehicle.scale_mass(factor),
            Self::MotorLag(factor) => vehicle.scale_motor_lag(factor),
            Self::Torque(size_n_m) => evaluation.perturbation.torque_n_m = size_n_m,
            Self::RotorThrust(half_width) => evaluation.perturbation.rotor_thrust = half_width,
            Self::Latency(steps) => evaluation.perturbation.action_latency_steps = steps,
            Self::Timing(rhythm, age_s) => {
                evaluation.perturbation.rhythm = rhythm;
                evaluation.perturbation.observation_age_s = age_s;
            }
            Self::Noise(factor) => {
                let simulation = &mut vehicle.simulation;
                simulation.position_noise_m *= factor;
                simulation.rotation_noise *= factor;
                simulation.velocity_noise_m_s *= factor;
                simulation.body_rate_noise_rad_s *= factor;
            }
        }
        evaluation
    }
}

#[cfg(test)]
mod tests {
    use spikewing_quad::{Perturbation, Vehicle};

    use super::*;

    #[test]
    fn every_change_does_what_it_says_and_nothing_else() {
        let nominal = Evaluation::paper(1, 1).unwrap();
        let changed = |change: Change| {
            let e = change.applied(&nominal);
            assert_eq!((e.seed, e.steps, e.dt_s), (nominal.seed, nominal.steps, nominal.dt_s));
            (e.vehicle, e.perturbation)
        };
        let none = Perturbation::default();
        let vehicle = || nominal.vehicle.clone();
        assert_eq!(changed(Change::Nothing), (vehicle(), none));
        for (change, expected) in [
            (Change::Torque(1e-4), Perturbation { torque_n_m: 1e-4, ..none }),
            (Change::RotorThrust(0.1), Perturbation { rotor_thrust: 0.1, ..none }),
            (Change::Latency(3), Perturbation { action_latency_steps: 3, ..none }),
            (
                Change::Timing(Rhythm::Px4, 0.02),
                Perturbation { rhythm: Rhythm::Px4, observation_age_s: 0.02, ..none },
            ),
        ] {
            assert_eq!(changed(change), (vehicle(), expected));
        }
        let (heavy, _) = changed(Change::Mass(1.2));
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-12, "{a} is not {b}");
        near(heavy.mass_kg, 0.0324);
        for axis in 0..3 {
            near(heavy.inertia_kg_m2[axis], 1.2 * nominal.vehicle.inertia_kg_m2[axis]);
            near(heavy.inverse_inertia()[axis], nominal.vehicle.inverse_inertia()[axis] / 1.2);
        }
        let v = vehicle();
        let (mass_kg, inertia_kg_m2, inertia_inverse) = (v.mass_kg, v.inertia_kg_m2, v.inertia_inverse);
        assert_eq!(Vehicle { mass_kg, inertia_kg_m2, inertia_inverse, ..heavy }, v);
        let (mut slow, _) = changed(Change::MotorLag(2.0));
        assert_eq!((slow.motor_time_constant_s.rising, slow.motor_time_constant_s.falling), (0.144, 0.144));
        slow.motor_time_constant_s = v.motor_time_constant_s;
        assert_eq!(slow, v);
        let (mut loud, _) = changed(Change::Noise(2.0));
        let s = &loud.simulation;
        assert_eq!(
            [s.position_noise_m, s.rotation_noise, s.velocity_noise_m_s, s.body_rate_noise_rad_s],
            [0.1, 0.002, 0.2, 0.4]
        );
        loud.simulation = v.simulation.clone();
        assert_eq!(loud, v);
        assert!(!changed(Change::Noise(0.0)).0.simulation.is_noisy());
    }

    #[test]
    fn every_condition_has_a_name_and_a_change_of_its_own() {
        for (i, a) in CONDITIONS.iter().enumerate() {
            assert!(CONDITIONS[..i].iter().all(|b| a.name != b.name && a.change != b.change), "{a:?}");
            assert!(!a.name.contains([',', '"', '|']), "{a:?} stands in a table");
        }
    }
}
