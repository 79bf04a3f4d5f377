//! Parameters.

use spikewing_runtime::{Context, Span, node::BuildError, parameters};

use crate::{
    offboard::{Handover, Limits},
    px4::{self, Release},
};

parameters! {
    const PX4_VERSION: Parameter<Option<Release>> = Parameter::choice("px4_version", px4::AUTO, px4::VERSIONS).about(
        "PX4 release, which decides message layouts and topic names; `auto` listens which status comes. Another one than is set is refused.",
    );
    const PX4_NAMESPACE: Parameter<String> = Parameter::text("px4_namespace", "").about(
        "Namespace of PX4's topics, as its client was started with (`px4_1` for a second simulated one); empty: the node's own.",
    );
    const COMMAND_TIMEOUT: Parameter<f64> = Parameter::float("command_timeout_s", 0.05)
        .range(0.005, 1.0)
        .unit("s")
        .about("A command older than this is stale: heartbeat and motor setpoints stop.");
    const HANDOVER_AFTER: Parameter<f64> = Parameter::float("handover_after_s", 0.1)
        .range(0.02, 1.0)
        .unit("s")
        .about("Without a command for so long in flight PX4 is asked to fly by itself; back when commands are back.");
    const STAND_IN: Parameter<f64> = Parameter::float("stand_in_s", 0.5)
        .range(0.0, 2.0)
        .unit("s")
        .about("A supervisor that is silent is started anew within this; meanwhile the guide's commands are flown. 0: they are not.");
    const HANDOVER: Parameter<Handover> = Parameter::choice(
        "handover",
        "hold",
        &[("hold", Handover::Hold), ("land", Handover::Land)],
    )
    .about("What PX4 is asked for when commands stop. PX4 that refuses to hold is asked to land.");
    const HOLD_LIMIT: Parameter<f64> = Parameter::float("hold_limit_s", 10.0)
        .range(0.0, 3600.0)
        .unit("s")
        .about("PX4 holds for so long, waiting for commands, and is then asked to land.");
    const STATUS_TIMEOUT: Parameter<f64> = Parameter::float("status_timeout_s", 1.25)
        .range(0.3, 10.0)
        .unit("s")
        .about("Without PX4's status (two a second) for so long nothing is commanded: a pilot may have taken the vehicle.");
    const HEARTBEAT_LEAD: Parameter<f64> = Parameter::float("heartbeat_lead_s", 1.2)
        .range(1.0, 10.0)
        .unit("s")
        .about("How long the heartbeat is streamed before offboard mode is asked for. PX4 wants more than 1 s.");
    const REQUEST_PERIOD: Parameter<f64> = Parameter::float("request_period_s", 0.5)
        .range(0.1, 10.0)
        .unit("s")
        .about("Time between two attempts of a refused or unanswered request.");
    const MAX_ATTEMPTS: Parameter<u64> = Parameter::whole("max_attempts", 20)
        .range(1.0, 1000.0)
        .about("Attempts before a request is given up until the next arming request.");
    const TARGET_SYSTEM: Parameter<u8> = Parameter::whole("target_system", 0)
        .range(0.0, 255.0)
        .about("MAVLink system id of the autopilot (MAV_SYS_ID); 0: as its status says.");
    const ENTITY: Parameter<String> = Parameter::text("entity", "x500_0")
        .about("Name of the vehicle in the simulated world, for resets.");
}

/// Resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The release that a person named.
    pub release: Option<Release>,
    /// Namespace of PX4's topics.
    pub px4_namespace: String,
    /// Time limits of the state machine.
    pub limits: Limits,
    /// What PX4 is asked for when commands stop.
    pub handover: Handover,
    /// System id to speak to.
    pub system: Option<u8>,
    /// Name in the simulated world.
    pub entity: String,
}

impl Settings {
    /// From resolved parameters.
    pub fn read(context: &Context<'_>) -> Result<Self, BuildError> {
        let p = context.parameters;
        let limits = Limits {
            command: Span::from_seconds(p.get(&COMMAND_TIMEOUT)?),
            handover: Span::from_seconds(p.get(&HANDOVER_AFTER)?),
            status: Span::from_seconds(p.get(&STATUS_TIMEOUT)?),
            lead: Span::from_seconds(p.get(&HEARTBEAT_LEAD)?),
            period: Span::from_seconds(p.get(&REQUEST_PERIOD)?),
            attempts: p.get(&MAX_ATTEMPTS)?,
            stand_in: Span::from_seconds(p.get(&STAND_IN)?),
            hold: Span::from_seconds(p.get(&HOLD_LIMIT)?),
        };
        if limits.handover < limits.command {
            return Err("handover_after_s must not be shorter than command_timeout_s".into());
        }
        Ok(Self {
            release: p.get(&PX4_VERSION)?,
            px4_namespace: p.get(&PX4_NAMESPACE)?,
            limits,
            handover: p.get(&HANDOVER)?,
            system: Some(p.get(&TARGET_SYSTEM)?).filter(|id| *id != 0),
            entity: p.get(&ENTITY)?,
        })
    }
}
