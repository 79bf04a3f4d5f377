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

use nalgebra::{Matrix3, Vector3};

/// Standard gravity, m/s².
const GRAVITY: f64 = 9.81;

/// What the controller must know of the airframe.
#[derive(Clone, Debug, PartialEq)]
pub struct Airframe {
    /// Mass, kg.
    pub mass_kg: f64,
    /// Diagonal of the inertia, kg m², body axes.
    pub inertia: [f64; 3],
    /// Rotor positions in the body frame (x forward, y left), m.
    pub rotor_positions: [[f64; 2]; 4],
    /// Sign of each rotor's reaction torque about body z.
    pub rotor_directions: [f64; 4],
    /// Reaction torque per thrust, N m/N.
    pub torque_constant: f64,
    /// Thrust f = c0 + c1 r + c2 r² of one rotor in state r, N.
    pub thrust_coefficients: [f64; 3],
    /// Rotor state at action −1 and at action 1.
    pub rotor_range: [f64; 2],
}

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
    airframe: Airframe,
    gains: Gains,
    /// Per rotor: thrust per roll, pitch and yaw torque, 1/m and 1/m and 1/1.
    allocation: [[f64; 3]; 4],
    thrust_range: [f64; 2],
}

impl Geometric {
    /// The controller for an airframe with four rotors at the corners of a rectangle around the centre of mass.
    pub fn new(airframe: Airframe, gains: Gains) -> Self {
        // With rotors symmetric about both axes the rows of the torque map are orthogonal, so that its inverse is its
        // transpose scaled by each row's squared length.
        let sum = |f: &dyn Fn(usize) -> f64| (0..4).map(|i| f(i) * f(i)).sum::<f64>();
        let y2 = sum(&|i| airframe.rotor_positions[i][1]);
        let x2 = sum(&|i| airframe.rotor_positions[i][0]);
        let s2 = sum(&|i| airframe.torque_constant * airframe.rotor_directions[i]);
        let allocation = std::array::from_fn(|i| {
            let [x, y] = airframe.rotor_positions[i];
            [y / y2, -x / x2, airframe.torque_constant * airframe.rotor_directions[i] / s2]
        });
        let [low, high] = airframe.rotor_range;
        let [c0, c1, c2] = airframe.thrust_coefficients;
        let thrust = |r: f64| c0 + c1 * r + c2 * r * r;
        // A quadratic whose vertex lies inside the range gives its least thrust there, not at idle.
        let vertex = if c2 > 0.0 { (-c1 / (2.0 * c2)).clamp(low, high) } else { low };
        let thrust_range = [thrust(vertex), thrust(high)];
        Self { airframe, gains, allocation, thrust_range }
    }

    /// The gains in use.
    pub fn gains(&self) -> &Gains {
        &self.gains
    }

    /// The action that hovers, in [−1, 1].
    pub fn hover_action(&self) -> f32 {
        self.action(self.airframe.mass_kg * GRAVITY / 4.0)
    }

    /// Motor commands in [−1, 1] that take the vehicle to a setpoint at rest with heading zero.
    ///
    /// `observation`: position error (m, world), rotation matrix body to world row-major, velocity (m/s, world), body
    /// rates (rad/s, body). It must be finite.
    pub fn command(&self, observation: &[f32; 18]) -> [f32; 4] {
        self.command_tracking(observation, &Reference::default())
    }

    /// As [`Geometric::command`], towards a setpoint that moves.
    pub fn command_tracking(&self, observation: &[f32; 18], reference: &Reference) -> [f32; 4] {
        let o = observation.map(f64::from);
        let position_error = Vector3::new(o[0], o[1], o[2]);
        let rotation = Matrix3::from_row_slice(&o[3..12]);
        let velocity = Vector3::new(o[12], o[13], o[14]) - Vector3::from(reference.velocity);
        let rates = Vector3::new(o[15], o[16], o[17]);

        let force = self.specific_force(&position_error, &velocity, &Vector3::from(reference.acceleration));
        let up = rotation.column(2).into_owned();
        let collective = self.airframe.mass_kg * force.dot(&up).max(0.0);
        let angular_acceleration =
            self.angular_acceleration(&rotation, &rates, &force, reference.heading_rad);
        let inertia = Vector3::from(self.airframe.inertia);
        let torque =
            inertia.component_mul(&angular_acceleration) + rates.cross(&inertia.component_mul(&rates));
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
            g.velocity_z * (approach_z - velocity.z) + feed.z + GRAVITY,
        );
        // Always some thrust, so that its direction stays defined and the vehicle can be turned.
        force.z = force.z.clamp(0.3 * GRAVITY, 2.0 * GRAVITY);
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
    fn allocate(&self, collective: f64, torque: &Vector3<f64>) -> [f64; 4] {
        let [low, high] = self.thrust_range;
        let mut tilting: [f64; 4] =
            std::array::from_fn(|i| self.allocation[i][0] * torque.x + self.allocation[i][1] * torque.y);
        let spread = |t: &[f64; 4]| {
            t.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &t| (a.min(t), b.max(t)))
        };
        let (least, most) = spread(&tilting);
        let scale = ((high - low) / (most - least).max(1e-12)).min(1.0);
        tilting = tilting.map(|t| t * scale);
        let each =
            (collective / 4.0).clamp(low - least * scale, (high - most * scale).max(low - least * scale));
        let base = tilting.map(|t| each + t);

        let yaw: [f64; 4] = std::array::from_fn(|i| self.allocation[i][2] * torque.z);
        let share = base.iter().zip(&yaw).fold(1.0_f64, |share, (&b, &y)| {
            let room = if y > 0.0 { high - b } else { b - low };
            if y.abs() * share > room { (room / y.abs()).max(0.0) } else { share }
        });
        std::array::from_fn(|i| (base[i] + share * yaw[i]).clamp(low, high))
    }

    /// The action that gives this thrust once the rotor has settled: the thrust curve inverted.
    fn action(&self, thrust_n: f64) -> f32 {
        let [c0, c1, c2] = self.airframe.thrust_coefficients;
        let [low, high] = self.airframe.rotor_range;
        let rotor = if c2.abs() > 0.0 {
            (-c1 + (c1 * c1 + 4.0 * c2 * (thrust_n - c0)).max(0.0).sqrt()) / (2.0 * c2)
        } else {
            (thrust_n - c0) / c1
        };
        (2.0 * (rotor - low) / (high - low) - 1.0).clamp(-1.0, 1.0) as f32
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
