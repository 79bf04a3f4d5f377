//! The supervisor's parameters.

use nalgebra::Vector3;
use spikewing_runtime::{Declaration, Parameters, Span, parameter::ParameterError};

use crate::envelope::Envelope;

/// What happens when the student leaves the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// The episode ends and a simulator puts the vehicle back.
    Reset,
    /// The guide flies the vehicle back; then a new episode starts.
    Recover,
}

/// Parameters as the supervisor uses them.
#[derive(Clone, Debug)]
pub struct Settings {
    pub period: Span,
    pub setpoint: Vector3<f64>,
    pub envelope: Envelope,
    pub on_violation: OnViolation,
    pub reset_each_episode: bool,
    pub episodes: bool,
    pub student_enabled: bool,
    pub auto_arm: bool,
    pub guide_steps: u32,
    pub episode_steps: u32,
    pub start_radius_m: f64,
    pub start_speed_mps: f64,
    pub settle: Span,
    pub reset_settle: Span,
    pub arming_timeout: Span,
    pub land_speed_mps: f64,
    pub setpoint_speed_mps: f64,
    pub seed: u64,
}

/// The declared parameters.
pub fn declare() -> Vec<Declaration> {
    vec![
        Declaration::float("control_rate_hz", 100.0)
            .range(10.0, 1000.0)
            .unit("Hz")
            .describe("Control rate: that of the odometry. A command is fresh for two periods."),
        Declaration::floats("setpoint", &[0.0, 0.0, 1.0])
            .range(-1000.0, 1000.0)
            .unit("m")
            .describe("Setpoint until one arrives on the topic."),
        Declaration::float("envelope.position", 0.6)
            .range(0.05, 100.0)
            .unit("m")
            .describe("Half width of the box around the setpoint in which the student may fly."),
        Declaration::float("envelope.tilt", 1.4)
            .range(0.1, 3.15)
            .unit("rad")
            .describe("Largest tilt with which the student may fly."),
        Declaration::float("envelope.speed", 4.0)
            .range(0.1, 100.0)
            .unit("m/s")
            .describe("Largest speed with which the student may fly."),
        Declaration::float("envelope.body_rate", 30.0)
            .range(0.5, 100.0)
            .unit("rad/s")
            .describe("Largest body rate with which the student may fly."),
        Declaration::choice("on_violation", "recover", &["recover", "reset"]).describe(
            "When the student leaves the envelope: the guide flies the vehicle back, or a simulator puts it back.",
        ),
        Declaration::boolean("reset_each_episode", false)
            .describe("Whether a simulator puts the vehicle back before every episode."),
        Declaration::boolean("episodes", true)
            .describe("Whether flight is cut into episodes; if not, the student flies on after its warm-up."),
        Declaration::boolean("student_enabled", true).dynamic().describe("Whether the student may fly at all."),
        Declaration::boolean("auto_arm", false)
            .describe("Arms as soon as vehicle and guide are there. For simulation; on a real drone call ~/arm."),
        Declaration::integer("guide_steps", 50).range(0.0, 100_000.0).unit("steps").describe(
            "Control steps that the guide flies at the start of an episode, until learner/jump_start says otherwise.",
        ),
        Declaration::integer("episode_steps", 500)
            .range(10.0, 1_000_000.0)
            .unit("steps")
            .describe("Control steps of an episode, until learner/jump_start says otherwise."),
        Declaration::float("episode.start_radius", 0.15)
            .range(0.01, 10.0)
            .unit("m")
            .describe("An episode starts when the vehicle is this near to the setpoint."),
        Declaration::float("episode.start_speed", 0.3)
            .range(0.01, 10.0)
            .unit("m/s")
            .describe("… and this slow,"),
        Declaration::float("episode.settle_s", 0.3).range(0.0, 60.0).unit("s").describe("… for this long."),
        Declaration::float("episode.setpoint_speed", 0.0).range(0.0, 5.0).unit("m/s").describe(
            "In half of the episodes the setpoint wanders, each coordinate by up to this (vertically a third), within 1 m of `setpoint`; it is published on the topic `setpoint`, where then nobody else should publish. 0: it stays.",
        ),
        Declaration::integer("seed", 1).range(0.0, 1e15).describe("Seed of that wandering."),
        Declaration::float("reset.settle_s", 0.03)
            .range(0.0, 60.0)
            .unit("s")
            .describe("Time after a reset until its odometry is trusted; PX4 in Gazebo needs 15 s."),
        Declaration::float("arming_timeout_s", 60.0)
            .range(1.0, 3600.0)
            .unit("s")
            .describe("Arming is given up after this."),
        Declaration::float("land_speed", 0.4).range(0.05, 5.0).unit("m/s").describe("Speed of a landing."),
    ]
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, ParameterError> {
        let count = |name: &str| Ok::<u32, ParameterError>(u32::try_from(p.count(name)?).unwrap_or(u32::MAX));
        Ok(Self {
            period: Span::from_rate_hz(p.float("control_rate_hz")?),
            setpoint: Vector3::from(p.array("setpoint")?),
            envelope: Envelope {
                position_m: p.float("envelope.position")?,
                tilt_rad: p.float("envelope.tilt")?,
                speed_mps: p.float("envelope.speed")?,
                body_rate_radps: p.float("envelope.body_rate")?,
            },
            on_violation: match p.text("on_violation")? {
                "reset" => OnViolation::Reset,
                _ => OnViolation::Recover,
            },
            reset_each_episode: p.boolean("reset_each_episode")?,
            episodes: p.boolean("episodes")?,
            student_enabled: p.boolean("student_enabled")?,
            auto_arm: p.boolean("auto_arm")?,
            guide_steps: count("guide_steps")?,
            episode_steps: count("episode_steps")?,
            start_radius_m: p.float("episode.start_radius")?,
            start_speed_mps: p.float("episode.start_speed")?,
            settle: Span::from_seconds(p.float("episode.settle_s")?),
            reset_settle: Span::from_seconds(p.float("reset.settle_s")?),
            arming_timeout: Span::from_seconds(p.float("arming_timeout_s")?),
            land_speed_mps: p.float("land_speed")?,
            setpoint_speed_mps: p.float("episode.setpoint_speed")?,
            seed: p.count("seed")? as u64,
        })
    }
}
