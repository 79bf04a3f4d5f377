//! Six and eight rotors through four motors: against a simulation of every rotor by itself.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_quad::{Disturbance, State, Vehicle, step, vehicle::Mixer};

fn vehicle(rotors: usize, curve: &str, falling: f64) -> Vehicle {
    let text: String = (0..rotors)
        .map(|i| {
            let angle = std::f64::consts::TAU * (i as f64 + 0.5) / rotors as f64;
            let spin = if i % 2 == 0 { 1 } else { -1 };
            format!(
                "  - {{ position_m: [{}, {}, 0.0], spin: {spin} }}\n",
                0.25 * angle.cos(),
                0.25 * angle.sin()
            )
        })
        .collect();
    let text = format!(
        "name: many\nmass_kg: 1.5\ngravity_m_s2: 9.81\ninertia_kg_m2: [0.03, 0.03, 0.055]\nrotors:\n{text}thrust_curve: {curve}\n\
         torque_constant_m: 0.016\nmotor_time_constant_s: {{rising: 0.03, falling: {falling}}}\nrotor_range: [0.0, 1.0]\n"
    );
    Vehicle::from_yaml(&text, "many.yaml").unwrap()
}

#[test]
fn no_command_of_the_motors_saturates_a_rotor_and_each_axis_is_commanded_alone() {
    for rotors in [6, 8] {
        let vehicle = vehicle(rotors, "[0.0, 0.0, 6.0]", 0.03);
        let mixer = Mixer::of(&vehicle);
        assert_eq!(mixer.rotors(), rotors);
        for row in mixer.thrust() {
            assert!(row.iter().all(|share| *share >= -1e-12), "{row:?}");
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row:?}");
        }
        let motors = vehicle.motors();
        for (motor, signs) in
            motors.iter().zip([[-1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
        {
            assert!((motor.force[2] - rotors as f64 / 4.0).abs() < 1e-9);
            for (axis, sign) in signs.into_iter().enumerate() {
                let same = motors[0].torque_m[axis].abs();
                assert!((motor.torque_m[axis] - sign * same).abs() < 1e-9 && same > 1e-3, "{motor:?}");
            }
        }
        println!("{rotors} rotors: motors with {:?}", motors[2]);
    }
}

/// The whole body with n rotors, each with its lag, by small Euler steps: nothing here knows of four motors but the mixer.
struct Whole<'a> {
    vehicle: &'a Vehicle,
    mixer: Mixer,
    state: State,
    rotors: Vec<f64>,
}

impl Whole<'_> {
    fn step(&mut self, motors: &[f64; 4]) {
        let v = self.vehicle;
        let command = self.mixer.commands(motors);
        let (parts, inertia) = (100, v.inertia_matrix());
        let dt = 0.01 / f64::from(parts);
        for _ in 0..parts {
            let (mut thrust, mut torque) = (0.0, Vector3::zeros());
            for (rotor, r) in v.rotors.iter().zip(&self.rotors) {
                let f = v.thrust_n(*r);
                thrust += f;
                torque += Vector3::from(rotor.position_m).cross(&(Vector3::z() * f))
                    + Vector3::z() * (rotor.spin * v.torque_constant_m * f);
            }
            let s = &mut self.state;
            let w = s.body_rates;
            s.velocity +=
                (s.orientation * Vector3::z() * (thrust / v.mass_kg) - Vector3::z() * v.gravity_m_s2) * dt;
            s.position += s.velocity * dt;
            let q = *s.orientation.quaternion();
            s.orientation = UnitQuaternion::new_normalize(q + q * Quaternion::from_imag(w) * (0.5 * dt));
            s.body_rates += inertia.try_inverse().unwrap() * (torque - w.cross(&(inertia * w))) * dt;
            for (r, command) in self.rotors.iter_mut().zip(command) {
                let error = v.rotor_of_action(command) - *r;
                let lag = v.motor_time_constant_s;
                *r += error / if error >= 0.0 { lag.rising } else { lag.falling } * dt;
            }
        }
    }
}

/// A roll and a yaw to and fro for a second and a half, with nothing that holds the vehicle back. Returns how far the four motors
/// and the whole get apart, and the largest angle flown.
fn apart(vehicle: &Vehicle) -> (f64, f64, f64) {
    let mut four = State::hover(vehicle, Vector3::zeros());
    let mut whole = Whole {
        vehicle,
        mixer: Mixer::of(vehicle),
        state: four,
        rotors: vec![vehicle.hover_rotor(); vehicle.rotors.len()],
    };
    let (mut metres, mut radians, mut flown): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for k in 0..150 {
        let (hover, t) = (vehicle.hover_action(), f64::from(k) * 0.01);
        let (roll, yaw) = (0.15 * (t * 9.0).cos(), 0.2 * (t * 6.0).cos());
        let action = [hover - roll - yaw, hover - roll + yaw, hover + roll - yaw, hover + roll + yaw];
        four = step(vehicle, &four, &action, &Disturbance::default(), 0.01);
        whole.step(&action);
        metres = metres.max((four.position - whole.state.position).norm());
        flown = flown.max(whole.state.orientation.angle());
        radians = radians.max(four.orientation.angle_to(&whole.state.orientation));
    }
    (metres, radians, flown)
}

#[test]
fn four_motors_fly_what_every_rotor_by_itself_flies() {
    for rotors in [6, 8] {
        for (curve, falling, metres, radians) in [
            ("[0.0, 6.0, 0.0]", 0.03, 5e-3, 5e-3),
            ("[0.0, 0.0, 6.0]", 0.03, 0.2, 0.05),
            ("[0.0, 0.0, 6.0]", 0.05, 0.5, 0.1),
        ] {
            let (m, rad, flown) = apart(&vehicle(rotors, curve, falling));
            println!(
                "{rotors} rotors, {curve}, falling {falling} s: {m:.5} m, {rad:.5} rad apart, flown {flown:.2}"
            );
            assert!(flown > 0.1, "{flown}");
            assert!(m < metres && rad < radians, "{rotors} {curve}: {m} {rad}");
        }
    }
}
