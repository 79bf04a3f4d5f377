//! The supervisor's parameters.

use nalgebra::Vector3;
use spikewing_runtime::{Parameter, Parameters, Span, node::BuildError, parameters};

use crate::{envelope::Envelope, fence::Fence, shipped};

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
    pub setpoint_speed_m_s: f64,
    pub setpoint_turn_rad_s: f64,
    pub envelope: Envelope,
    pub fence: Fence,
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
    pub wander_m_s: f64,
    pub seed: u64,
}

parameters! {
    const CONTROL_RATE_HZ: Parameter<f64> = Parameter::float("control_rate_hz", 100.0)
        .range(10.0, 1000.0)
        .unit("Hz")
        .about("Control rate: that of the odometry. A command is fresh for two periods.");
    const SETPOINT: Parameter<[f64; 3]> = Parameter::vector("setpoint", &[0.0, 0.0, 1.0])
        .range(-1000.0, 1000.0)
        .unit("m")
        .about("Setpoint until one arrives on the topic. The fence stands around it.");
    const SETPOINT_SPEED: Parameter<f64> = Parameter::float("setpoint_speed", 1.5)
        .range(0.01, 20.0)
        .unit("m/s")
        .about("Largest speed of the setpoint that is flown: it goes to one that jumps.");
    const SETPOINT_TURN: Parameter<f64> = Parameter::float("setpoint_turn_rate", 0.8)
        .range(0.01, 10.0)
        .unit("rad/s")
        .about("Largest rate at which the heading of the setpoint that is flown turns to the one asked for.");
    const FENCE_RADIUS: Parameter<f64> = Parameter::float("fence.radius", 20.0)
        .range(0.5, 10_000.0)
        .unit("m")
        .about("Radius of the fence around the parameter `setpoint`. Setpoints outside are refused, a vehicle outside lands.");
    const FENCE_FLOOR: Parameter<f64> = Parameter::float("fence.floor", -10.0)
        .range(-1000.0, 1000.0)
        .unit("m")
        .about("Lowest height within the fence.");
    const FENCE_CEILING: Parameter<f64> = Parameter::float("fence.ceiling", 20.0)
        .range(-1000.0, 1000.0)
        .unit("m")
        .about("Largest height within the fence.");
    const VEHICLE: Parameter<String> = Parameter::text("vehicle", "crazyflie")
        .about("Airframe, for its envelope. For one that does not ship, set `envelope.*`.");
    const ENVELOPE_POSITION: Parameter<f64> = Parameter::float("envelope.position", 0.0)
        .range(0.0, 100.0)
        .unit("m")
        .about("Half width of the box around the setpoint in which the student may fly; 0: as ships for `vehicle`.");
    const ENVELOPE_TILT: Parameter<f64> = Parameter::float("envelope.tilt", 0.0)
        .range(0.0, 3.15)
        .unit("rad")
        .about("Largest tilt with which the student may fly; 0: as ships for `vehicle`.");
    const ENVELOPE_SPEED: Parameter<f64> = Parameter::float("envelope.speed", 0.0)
        .range(0.0, 100.0)
        .unit("m/s")
        .about("Largest speed with which the student may fly; 0: as ships for `vehicle`.");
    const ENVELOPE_BODY_RATE: Parameter<f64> = Parameter::float("envelope.body_rate", 0.0)
        .range(0.0, 100.0)
        .unit("rad/s")
        .about("Largest body rate with which the student may fly; 0: as ships for `vehicle`.");
    const ENVELOPE_LOOKAHEAD: Parameter<f64> = Parameter::float("envelope.lookahead_s", 0.15)
        .range(0.0, 5.0)
        .unit("s")
        .about("The guide takes over this long before the student would leave the box or reach the ground; 0: when it has.");
    const ENVELOPE_BRAKE: Parameter<f64> = Parameter::float("envelope.brake", 0.0)
        .range(0.0, 100.0)
        .unit("m/s²")
        .about("Deceleration with which the guide stops a fall, for looking ahead to the ground; 0: as ships for `vehicle`.");
    const ON_VIOLATION: Parameter<OnViolation> = Parameter::choice("on_violation", "recover",
        &[("recover", OnViolation::Recover), ("reset", OnViolation::Reset)])
        .about("When the student leaves the envelope: the guide flies the vehicle back, or a simulator puts it back.");
    const RESET_EACH_EPISODE: Parameter<bool> = Parameter::flag("reset_each_episode", false)
        .about("Whether a simulator puts the vehicle back before every episode.");
    const EPISODES: Parameter<bool> = Parameter::flag("episodes", true)
        .about("Whether flight is cut into episodes; if not, the student flies on after its warm-up.");
    pub const STUDENT_ENABLED: Parameter<bool> = Parameter::flag("student_enabled", true)
        .dynamic()
        .about("Whether the student may fly at all.");
    const AUTO_ARM: Parameter<bool> = Parameter::flag("auto_arm", false)
        .about("Arms once, as soon as vehicle and guide are there, unless it was disarmed before. For simulation; on a real drone call ~/arm.");
    const GUIDE_STEPS: Parameter<u32> = Parameter::whole("guide_steps", 50)
        .range(0.0, 100_000.0)
        .unit("steps")
        .about("Control steps that the guide flies at the start of an episode, until learner/jump_start says otherwise.");
    const EPISODE_STEPS: Parameter<u32> = Parameter::whole("episode_steps", 500)
        .range(10.0, 1_000_000.0)
        .unit("steps")
        .about("Control steps of an episode, until learner/jump_start says otherwise.");
    const START_RADIUS: Parameter<f64> = Parameter::float("episode.start_radius", 0.15)
        .range(0.01, 10.0)
        .unit("m")
        .about("An episode starts when the vehicle is this near to the setpoint.");
    const START_SPEED: Parameter<f64> = Parameter::float("episode.start_speed", 0.3)
        .range(0.01, 10.0)
        .unit("m/s")
        .about("… and this slow,");
    const SETTLE: Parameter<f64> = Parameter::float("episode.settle_s", 0.3)
        .range(0.0, 60.0)
        .unit("s")
        .about("… for this long.");
    const WANDER: Parameter<f64> = Parameter::float("episode.setpoint_speed", 0.0)
        .range(0.0, 5.0)
        .unit("m/s")
        .about("In half of the episodes the setpoint wanders, each coordinate by up to this (vertically a third), within 1 m of where it was asked for. 0: it stays.");
    const SEED: Parameter<u64> = Parameter::whole("seed", 1).range(0.0, 1e15).about("Seed of that wandering.");
    const RESET_SETTLE: Parameter<f64> = Parameter::float("reset.settle_s", 0.03)
        .range(0.0, 60.0)
        .unit("s")
        .about("Time after a reset until its odometry is trusted; PX4 in Gazebo needs 15 s.");
    const ARMING_TIMEOUT: Parameter<f64> = Parameter::float("arming_timeout_s", 60.0)
        .range(1.0, 3600.0)
        .unit("s")
        .about("Arming is given up after this.");
    const LAND_SPEED: Parameter<f64> = Parameter::float("land_speed", 0.4)
        .range(0.05, 5.0)
        .unit("m/s")
        .about("Speed of a landing.");
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let setpoint = Vector3::from(p.get(&SETPOINT)?);
        Ok(Self {
            period: Span::from_rate_hz(p.get(&CONTROL_RATE_HZ)?),
            setpoint,
            setpoint_speed_m_s: p.get(&SETPOINT_SPEED)?,
            setpoint_turn_rad_s: p.get(&SETPOINT_TURN)?,
            envelope: envelope(p)?,
            fence: Fence {
                center_m: [setpoint.x, setpoint.y],
                radius_m: p.get(&FENCE_RADIUS)?,
                floor_m: p.get(&FENCE_FLOOR)?,
                ceiling_m: p.get(&FENCE_CEILING)?,
            },
            on_violation: p.get(&ON_VIOLATION)?,
            reset_each_episode: p.get(&RESET_EACH_EPISODE)?,
            episodes: p.get(&EPISODES)?,
            student_enabled: p.get(&STUDENT_ENABLED)?,
            auto_arm: p.get(&AUTO_ARM)?,
            guide_steps: p.get(&GUIDE_STEPS)?,
            episode_steps: p.get(&EPISODE_STEPS)?,
            start_radius_m: p.get(&START_RADIUS)?,
            start_speed_mps: p.get(&START_SPEED)?,
            settle: Span::from_seconds(p.get(&SETTLE)?),
            reset_settle: Span::from_seconds(p.get(&RESET_SETTLE)?),
            arming_timeout: Span::from_seconds(p.get(&ARMING_TIMEOUT)?),
            land_speed_mps: p.get(&LAND_SPEED)?,
            wander_m_s: p.get(&WANDER)?,
            seed: p.get(&SEED)?,
        })
    }
}

/// The envelope: what was set, and for what was not what ships for the vehicle.
fn envelope(p: &Parameters) -> Result<Envelope, BuildError> {
    let vehicle = p.get(&VEHICLE)?;
    let limits = [&ENVELOPE_POSITION, &ENVELOPE_TILT, &ENVELOPE_SPEED, &ENVELOPE_BODY_RATE, &ENVELOPE_BRAKE];
    let set = limits.iter().map(|limit| p.get(limit)).collect::<Result<Vec<f64>, _>>()?;
    let known = shipped::of(&vehicle)?;
    if known.is_none() && set.contains(&0.0) {
        tracing::warn!(
            "no envelope ships for `{vehicle}`: that of {} stands in; set `envelope.*` for it",
            shipped::CAREFUL
        );
    }
    let known = match known {
        Some(known) => known,
        None => shipped::of(shipped::CAREFUL)?.ok_or("an envelope that ships is missing")?,
    };
    let value = |limit: &Parameter<f64>| -> Result<f64, BuildError> {
        let set = p.get(limit)?;
        Ok(if set == 0.0 { known.get(limit)? } else { set })
    };
    Ok(Envelope {
        position_m: value(&ENVELOPE_POSITION)?,
        tilt_rad: value(&ENVELOPE_TILT)?,
        speed_mps: value(&ENVELOPE_SPEED)?,
        body_rate_radps: value(&ENVELOPE_BODY_RATE)?,
        lookahead_s: p.get(&ENVELOPE_LOOKAHEAD)?,
        brake_mps2: value(&ENVELOPE_BRAKE)?,
    })
}
