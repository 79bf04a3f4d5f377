//! A geometric position controller on SE(3), without memory.
//!
//! After T. Lee, M. Leok, N. H. McClamroch, *Geometric tracking control of a quadrotor UAV on SE(3)*, CDC 2010, with
//! three changes that a small quadrotor with slow motors and noisy measurements asks for:
//!
//! - the attitude error is split into tilt (where the thrust points) and heading, the tilt error being the rotation
//!   vector of the shortest rotation, which grows up to π instead of vanishing at 180°
//!   (D. Brescianini, M. Hehn, R. D'Andrea, *Nonlinear quadrocopter attitude control*, ETH Zürich 2013);
//! - the velocity asked for is limited, so that a far setpoint is approached at a steady speed and not by a wild tilt;
//! - where the motors saturate, roll and pitch come first, then collective thrust, then yaw.
//!
//! The motors' lag (first order, 72 ms on the Crazyflie) is not modelled by the law: a law without memory cannot know
//! the rotor speeds. [`Gains::crazyflie`] therefore keeps the attitude loop below the lag's bandwidth.

use nalgebra::{Matrix3, Matrix4, Vector3, Vector4};
use spikewing_quad::{Observation, State, Vehicle, protocol::Pilot, vehicle::ROTORS};

/// Gains and limits of the controller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Horizontal position, 1/s²: acceleration per metre.
    pub position_xy: f64,
    /// Vertical position, 1/s².
    pub position_z: f64,
    /// Horizontal velocity, 1/s: acceleration per m/s.
    pub velocity_xy: f64,
    /// Vertical velocity, 1/s.
    pub velocity_z: f64,
    /// Tilt, 1/s²: angular acceleration per radian.
    pub tilt: f64,
    /// Roll and pitch rate, 1/s.
    pub tilt_rate: f64,
    /// Heading, 1/s².
    pub yaw: f64,
    /// Yaw rate, 1/s.
    pub yaw_rate: f64,
    /// Horizontal speed towards a far setpoint, m/s.
    pub max_speed_xy_m_s: f64,
    /// Vertical speed towards a far setpoint, m/s.
    pub max_speed_z_m_s: f64,
    /// Largest tilt asked for, rad.
    pub max_tilt_rad: f64,
}

impl Gains {
    /// Gains for a Crazyflie 2.1 whose motors settle within 80 ms (`l2f0`). Tuned by simulation for return, recovery
    /// from 45° tilts and a steady action, under observation noise, a late action, and errors of mass, inertia and lag.
    pub const fn crazyflie() -> Self {
        Self {
            position_xy: 6.9,
            position_z: 5.5,
            velocity_xy: 3.9,
            velocity_z: 2.7,
            tilt: 130.0,
            tilt_rate: 23.0,
            yaw: 20.0,
            yaw_rate: 5.0,
            max_speed_xy_m_s: 1.0,
            max_speed_z_m_s: 0.6,
            max_tilt_rad: 0.6,
        }
    }

    /// As [`Gains::crazyflie`], for motors that take longer (`ltf` and `l2f2`: 150 ms and 250 ms).
    pub const fn slow_motors() -> Self {
        Self {
            position_xy: 6.2,
            position_z: 5.8,
            velocity_xy: 4.3,
            velocity_z: 3.6,
            tilt: 75.0,
            tilt_rate: 18.0,
            yaw: 8.0,
            yaw_rate: 3.8,
            ..Self::crazyflie()
        }
    }

    /// The gains that suit a motor time constant (the slower of rising and falling), s.
    pub fn for_motor_lag(time_constant_s: f64) -> Self {
        if time_constant_s <= 0.08 { Self::crazyflie() } else { Self::slow_motors() }
    }
}

/// Motion that the setpoint is meant to have, for tracking; all zero for a setpoint at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reference {
    /// Velocity of the setpoint, world, m/s.
    pub velocity: [f64; 3],
    /// Acceleration of the setpoint, world, m/s².
    pub acceleration: [f64; 3],
    /// Heading, rad about world z.
    pub heading_rad: f64,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Geometric {
    vehicle: Vehicle,
    gains: Gains,
    /// Thrust of each motor (rows) per collective thrust and roll, pitch and yaw torque (columns).
    allocation: Matrix4<f64>,
    thrust_range: [f64; 2],
    inertia: Matrix3<f64>,
}

impl Geometric {
    /// The controller for a vehicle.
    pub fn new(vehicle: &Vehicle, gains: Gains) -> Self {
        let mut as_built = vehicle.clone();
        as_built.rotors.iter_mut().for_each(|rotor| rotor.thrust_factor = 1.0);
        let effect = Matrix4::from_columns(&as_built.motors().map(|motor| {
            let [x, y, z] = motor.torque_m;
            Vector4::new(motor.force[2], x, y, z)
        }));
        // The pseudo-inverse asks nothing of the airframe: an axis that the rotors cannot turn is left alone.
        let allocation = effect.pseudo_inverse(1e-12).unwrap_or_else(|_| Matrix4::zeros());
        Self {
            vehicle: vehicle.clone(),
            gains,
            allocation,
            thrust_range: vehicle.thrust_range_n(),
            inertia: vehicle.inertia_matrix(),
        }
    }

    /// The controller for a vehicle, with the gains that suit its motors.
    pub fn for_vehicle(vehicle: &Vehicle) -> Self {
        let lag = vehicle.motor_time_constant_s;
        Self::new(vehicle, Gains::for_motor_lag(lag.rising.max(lag.falling)))
    }

    /// The gains in use.
    pub fn gains(&self) -> &Gains {
        &self.gains
    }

    /// Motor commands in [−1, 1] that take the vehicle to a setpoint at rest with heading zero.
    ///
    /// `observation`: position error (m, world), rotation matrix body to world row-major, velocity (m/s, world), body
    /// rates (rad/s, body). It must be finite.
    pub fn command(&self, observation: &Observation) -> [f32; 4] {
        self.command_tracking(observation, &Reference::default())
    }

    /// As [`Geometric::command`], towards a setpoint that moves.
    pub fn command_tracking(&self, observation: &Observation, reference: &Reference) -> [f32; 4] {
        let o = observation.map(f64::from);
        let position_error = Vector3::new(o[0], o[1], o[2]);
        let rotation = Matrix3::from_row_slice(&o[3..12]);
        let velocity = Vector3::new(o[12], o[13], o[14]) - Vector3::from(reference.velocity);
        let rates = Vector3::new(o[15], o[16], o[17]);

        let force = self.specific_force(&position_error, &velocity, &Vector3::from(reference.acceleration));
        let up = rotation.column(2).into_owned();
        let collective = self.vehicle.mass_kg * force.dot(&up).max(0.0);
        let angular_acceleration =
            self.angular_acceleration(&rotation, &rates, &force, reference.heading_rad);
        let inertia = &self.inertia;
        let torque = inertia * angular_acceleration + rates.cross(&(inertia * rates));
        self.allocate(collective, &torque).map(|thrust| self.action(thrust))
    }

    /// Force per mass asked of the rotors, world frame, m/s²: PD on the position with a limited approach speed,
    /// plus gravity, within the tilt limit.
    fn specific_force(
        &self,
        error: &Vector3<f64>,
        velocity: &Vector3<f64>,
        feed: &Vector3<f64>,
    ) -> Vector3<f64> {
        let g = &self.gains;
        // kp·e = kv·(kp/kv·e): limiting the inner product limits the approach speed and leaves small errors alone.
        let approach_xy = limit_norm_xy(error * (-g.position_xy / g.velocity_xy), g.max_speed_xy_m_s);
        let approach_z =
            (-error.z * g.position_z / g.velocity_z).clamp(-g.max_speed_z_m_s, g.max_speed_z_m_s);
        let mut force = Vector3::new(
            g.velocity_xy * (approach_xy.x - velocity.x) + feed.x,
            g.velocity_xy * (approach_xy.y - velocity.y) + feed.y,
            g.velocity_z * (approach_z - velocity.z) + feed.z + self.vehicle.gravity_m_s2,
        );
        // Always some thrust, so that its direction stays defined and the vehicle can be turned.
        force.z = force.z.clamp(0.3 * self.vehicle.gravity_m_s2, 2.0 * self.vehicle.gravity_m_s2);
        let horizontal = limit_norm_xy(force, force.z * g.max_tilt_rad.tan());
        Vector3::new(horizontal.x, horizontal.y, force.z)
    }

    /// PD on tilt and heading, body axes, rad/s².
    fn angular_acceleration(
        &self,
        rotation: &Matrix3<f64>,
        rates: &Vector3<f64>,
        force: &Vector3<f64>,
        heading_rad: f64,
    ) -> Vector3<f64> {
        let g = &self.gains;
        // Direction asked for, seen from the body, in which thrust points along z.
        let wanted = rotation.tr_mul(force).try_normalize(1e-9).unwrap_or_else(Vector3::z);
        // Rotation vector from z to `wanted`: axis z × wanted, angle between them.
        let sine = wanted.x.hypot(wanted.y);
        let angle = sine.atan2(wanted.z);
        let (axis_x, axis_y) = match sine > 1e-6 {
            true => (-wanted.y / sine, wanted.x / sine),
            // Upside down any axis will do; aligned the angle is zero anyway.
            false => (1.0, 0.0),
        };
        // Heading of the body's forward axis; loses its meaning, and its weight, as the vehicle tips over.
        let heading = rotation[(1, 0)].atan2(rotation[(0, 0)]);
        let heading_error = wrap_angle(heading - heading_rad) * rotation[(2, 2)].max(0.0);
        Vector3::new(
            g.tilt * angle * axis_x - g.tilt_rate * rates.x,
            g.tilt * angle * axis_y - g.tilt_rate * rates.y,
            -g.yaw * heading_error - g.yaw_rate * rates.z,
        )
    }

    /// Thrust per rotor, N, within the rotors' range. Roll and pitch come first, then the collective, then yaw.
    fn allocate(&self, collective: f64, torque: &Vector3<f64>) -> [f64; ROTORS] {
        let [low, high] = self.thrust_range;
        let lift = self.allocation.column(0);
        let mut tilting = self.allocation.column(1) * torque.x + self.allocation.column(2) * torque.y;
        let spread = tilting.max() - tilting.min();
        if spread > high - low {
            tilting *= (high - low) / spread;
        }
        // Room that the tilting torques leave to the collective: low ≤ lift·collective + tilting ≤ high for each rotor.
        let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
        for (&lift, &tilting) in lift.iter().zip(tilting.iter()).filter(|(lift, _)| **lift > 1e-6) {
            least = least.max((low - tilting) / lift);
            most = most.min((high - tilting) / lift);
        }
        let base = lift * collective.max(least).min(most) + tilting;

        let yaw = self.allocation.column(3) * torque.z;
        let share = base.iter().zip(yaw.iter()).fold(1.0_f64, |share, (&base, &yaw)| {
            let room = if yaw > 0.0 { high - base } else { base - low };
            if yaw.abs() * share > room { (room / yaw.abs()).max(0.0) } else { share }
        });
        let thrusts = base + yaw * share;
        [thrusts.x, thrusts.y, thrusts.z, thrusts.w].map(|thrust| thrust.clamp(low, high))
    }

    /// The action that gives this thrust once the rotor has settled.
    fn action(&self, thrust_n: f64) -> f32 {
        self.vehicle.action_of_rotor(self.vehicle.rotor_for_thrust(thrust_n)).clamp(-1.0, 1.0) as f32
    }
}

fn limit_norm_xy(v: Vector3<f64>, limit: f64) -> Vector3<f64> {
    let norm = v.x.hypot(v.y);
    if norm > limit { Vector3::new(v.x * limit / norm, v.y * limit / norm, v.z) } else { v }
}

fn wrap_angle(angle: f64) -> f64 {
    use std::f64::consts::PI;
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

impl Pilot for Geometric {
    fn reset(&mut self, _vehicle: &Vehicle, _state: &State) {}

    fn act(&mut self, observation: &Observation, _step: usize) -> [f32; 4] {
        self.command(observation)
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::UnitQuaternion;
    use proptest::prelude::*;
    use spikewing_quad::{
        Disturbance, observation,
        protocol::{Evaluation, Protocol, Summary},
        step,
    };

    use super::*;

    fn summary(vehicle: &str, protocol: Protocol, episodes: usize) -> Summary {
        let evaluation = Evaluation {
            vehicle: Vehicle::find(vehicle).unwrap(),
            protocol,
            ..Evaluation::paper(episodes, 1).unwrap()
        };
        let summary = Summary::of(&evaluation.run(&mut Geometric::for_vehicle(&evaluation.vehicle)));
        println!("{vehicle} {protocol:?}: {summary:?}");
        summary
    }

    /// The public guide policy returns 446.8 here.
    #[test]
    fn it_hovers_better_than_the_published_guide() {
        let summary = summary("l2f0", Protocol::Paper, 100);
        assert_eq!(summary.completed_share, 1.0);
        assert!(summary.return_mean > 490.0, "{}", summary.return_mean);
        assert!(summary.tracking_error_m < 0.025, "{}", summary.tracking_error_m);
        assert!(summary.action_change_mean < 0.2, "{}", summary.action_change_mean);
    }

    #[test]
    fn it_flies_every_airframe() {
        for (vehicle, least) in
            [("crazyflie", 490.0), ("ltf", 350.0), ("l2f2", 480.0), ("x500", 300.0), ("sih_quadx", 300.0)]
        {
            let summary = summary(vehicle, Protocol::Paper, 30);
            assert_eq!(summary.completed_share, 1.0, "{vehicle}");
            assert!(summary.return_mean > least, "{vehicle}: {}", summary.return_mean);
        }
    }

    /// From starts with up to 90° of tilt, 1 m/s and rotors anywhere the public guide policy leaves the box in 46 %.
    #[test]
    fn it_recovers_from_many_of_the_published_starts() {
        let summary = summary("l2f0", Protocol::Recovery, 200);
        assert!(summary.completed_share > 0.4, "{}", summary.completed_share);
    }

    #[test]
    fn it_recovers_from_45_degrees_of_tilt_in_every_direction() {
        let vehicle = Vehicle::find("crazyflie").unwrap();
        let guide = Geometric::for_vehicle(&vehicle);
        for direction in 0..16 {
            let angle = f64::from(direction) * std::f64::consts::TAU / 16.0;
            let axis = Vector3::new(angle.cos(), angle.sin(), 0.0);
            let mut state = State::hover(&vehicle, Vector3::zeros());
            state.orientation = UnitQuaternion::from_scaled_axis(axis * std::f64::consts::FRAC_PI_4);
            let mut furthest: f64 = 0.0;
            for _ in 0..500 {
                let action = guide.command(&state.observation(&Vector3::zeros())).map(f64::from);
                state = step(&vehicle, &state, &action, &Disturbance::default(), 0.01);
                furthest = furthest.max(state.position.norm());
            }
            assert!(furthest < 0.5, "went {furthest} m away");
            assert!(state.position.norm() < 0.01 && state.velocity.norm() < 0.01, "{state:?}");
        }
    }

    #[test]
    fn a_far_setpoint_is_approached_at_the_speed_limit_without_a_wild_tilt() {
        let vehicle = Vehicle::find("crazyflie").unwrap();
        let guide = Geometric::for_vehicle(&vehicle);
        let setpoint = Vector3::new(20.0, -10.0, 8.0);
        let mut state = State::hover(&vehicle, Vector3::zeros());
        let (mut tilt, mut speed): (f64, f64) = (0.0, 0.0);
        for _ in 0..4000 {
            let action = guide.command(&state.observation(&setpoint)).map(f64::from);
            state = step(&vehicle, &state, &action, &Disturbance::default(), 0.01);
            tilt = tilt.max((state.orientation * Vector3::z()).z.acos());
            speed = speed.max(state.velocity.norm());
        }
        assert!((state.position - setpoint).norm() < 0.02, "{}", state.position - setpoint);
        assert!(tilt < 0.5, "tilt {tilt} rad");
        assert!(speed < 1.4, "speed {speed} m/s");
    }

    #[test]
    fn at_the_setpoint_it_commands_hover() {
        for name in ["crazyflie", "ltf", "x500", "sih_quadx"] {
            let vehicle = Vehicle::find(name).unwrap();
            let state = State::hover(&vehicle, Vector3::zeros());
            for motor in Geometric::for_vehicle(&vehicle).command(&state.observation(&Vector3::zeros())) {
                assert!((f64::from(motor) - vehicle.hover_action()).abs() < 1e-5, "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_finite_observation_gives_a_command_in_range(
            error in prop::array::uniform3(-1e3..1e3_f64),
            axis in prop::array::uniform3(-4.0..4.0_f64),
            velocity in prop::array::uniform3(-50.0..50.0_f64),
            rates in prop::array::uniform3(-50.0..50.0_f64),
        ) {
            let vehicle = Vehicle::find("crazyflie").unwrap();
            let orientation = UnitQuaternion::from_scaled_axis(Vector3::from(axis));
            let seen = observation(&error.into(), &orientation, &velocity.into(), &rates.into());
            let command = Geometric::for_vehicle(&vehicle).command(&seen);
            prop_assert!(command.iter().all(|m| (-1.0..=1.0).contains(m)), "{command:?}");
        }
    }
}
