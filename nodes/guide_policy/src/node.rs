//! The guide's logic.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{AnyMessage, geometry_msgs, nav_msgs::Odometry, spikewing_msgs as sw, std_msgs::Header};
use spikewing_quad::{Observation, Setpoint, State, Vehicle, protocol::Pilot, setpoint::SetpointError};
use spikewing_runtime::{
    Context, Node, Outbox, Received, Span, Time,
    node::{BuildError, Job, JobResult, Request, Shutdown},
    parameters,
    port::{Input, Interface, Output, Qos, Server},
};
use spikewing_snn::{
    Mlp,
    policy::{Airframe, Model, Policy, PublicKey, Requirements, sha256},
};

use crate::{geometric::Geometric, history::History};

const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
const SETPOINT: Input<geometry_msgs::PoseStamped> = Input::new("target", Qos::latched());
const OVERRIDE: Input<geometry_msgs::PoseStamped> = Input::new("guide/setpoint", Qos::sensor(1));
const APPLIED: Input<sw::MotorCommand> = Input::new("command", Qos::sensor(1));
const COMMAND: Output<sw::MotorCommand> = Output::new("guide/command", Qos::sensor(1));
const LOAD: Server<sw::LoadPolicy> = Server::new("~/load_policy");

const CHECK: Span = Span::from_millis(500);
const CHECK_TIMER: &str = "check";
const LOAD_JOB: &str = "load policy";
/// The supervisor's setpoint holds for so long.
const OVERRIDE_LIFE: Span = Span::from_millis(500);
/// A learned guide never saw a position error beyond this; farther setpoints are approached from there, m.
const MLP_REACH_M: f32 = 0.4;
const NOT_FINITE: &str = "a number is not finite, or the quaternion is none";
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);
const SHUTDOWN_QUIET: Span = Span::from_millis(300);

parameters! {
    const CONTROLLER: Parameter<ControllerKind> = Parameter::choice(
        "controller",
        "geometric",
        &[("geometric", ControllerKind::Geometric), ("mlp", ControllerKind::Mlp)],
    )
    .about("The guide: a geometric controller that needs no training, or a learned privileged network.");
    const POLICY_FILE: Parameter<String> = Parameter::text("policy_file", "")
        .about("Policy of kind mlp (.safetensors), for `controller: mlp`.");
    const VEHICLE: Parameter<String> = Parameter::text("vehicle", "crazyflie")
        .about("Airframe: a built-in one (crazyflie, x500, sih_quadx, l2f0, ltf, l2f2) or the path of a vehicle file.");
    const CONTROL_RATE: Parameter<f64> = Parameter::float("control_rate_hz", 100.0)
        .range(10.0, 1000.0)
        .unit("Hz")
        .about("Control rate: that of the odometry, and the one a policy must be made for.");
    const TRUSTED_KEYS: Parameter<Vec<String>> = Parameter::texts("trusted_keys", &[])
        .about("Public ed25519 keys (hexadecimal); if any, only policies that one of them signed are taken.");
    const START_SETPOINT: Parameter<[f64; 3]> = Parameter::vector("setpoint", &[0.0, 0.0, 1.0])
        .range(-1000.0, 1000.0)
        .unit("m")
        .about("Setpoint until one arrives on the topic.");
}

/// Which controller guides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerKind {
    /// The classical one.
    Geometric,
    /// A learned network.
    Mlp,
}

/// What computes the guide's command.
#[derive(Clone, Debug)]
enum Controller {
    Geometric,
    Mlp(Box<Mlp>),
}

/// The privileged network as a pilot for evaluation: it keeps its own history.
#[derive(Clone, Debug)]
pub struct MlpPilot {
    mlp: Mlp,
    history: History,
}

impl MlpPilot {
    /// From a network on the privileged observation.
    pub fn new(mlp: Mlp) -> Self {
        Self { mlp, history: History::filled(0.0) }
    }
}

impl Pilot for MlpPilot {
    fn reset(&mut self, vehicle: &Vehicle, state: &State) {
        let action = state.rotors.map(|r| vehicle.action_of_rotor(r) as f32);
        self.history = History::filled(0.0);
        for _ in 0..crate::history::LENGTH {
            self.history.push(action);
        }
    }

    fn act(&mut self, observation: &Observation, _step: usize) -> [f32; 4] {
        let mut action = [0.0; 4];
        if self.mlp.forward(&self.history.privileged(observation), &mut action).is_err() {
            return [f32::NAN; 4];
        }
        self.history.push(action);
        action
    }
}

/// The node's logic.
pub struct GuidePolicy {
    geometric: Geometric,
    controller: Controller,
    /// What a policy must be.
    requirements: Requirements,
    history: History,
    setpoint: Setpoint,
    overriding: Option<(Time, Setpoint)>,
    loading: bool,
    last_odometry: Option<Time>,
    last_applied: Option<Time>,
    dropped: u64,
    shutdown_since: Option<Time>,
    instance: u64,
}

impl GuidePolicy {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When vehicle or policy file are refused.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let p = context.parameters;
        let vehicle = Vehicle::find(&p.get(&VEHICLE)?)?;
        let requirements = Requirements {
            airframes: vehicle.known_as().into_iter().map(Airframe::from).collect(),
            control_rate_hz: Some(p.get(&CONTROL_RATE)?),
            trusted_keys: p
                .get(&TRUSTED_KEYS)?
                .iter()
                .map(|k| PublicKey::from_hex(k))
                .collect::<Result<Vec<_>, _>>()?,
            ..Requirements::guide()
        };
        let controller = match (p.get(&CONTROLLER)?, p.get(&POLICY_FILE)?.as_str()) {
            (ControllerKind::Mlp, "") => {
                return Err("controller `mlp` needs a policy_file; or use controller `geometric`".into());
            }
            (ControllerKind::Mlp, path) => Controller::Mlp(load(path, &requirements)?),
            (ControllerKind::Geometric, _) => Controller::Geometric,
        };
        Ok(Self {
            geometric: Geometric::for_vehicle(&vehicle),
            controller,
            history: History::filled(vehicle.hover_action() as f32),
            requirements,
            setpoint: Setpoint::at(Vector3::from(p.get(&START_SETPOINT)?)),
            overriding: None,
            loading: false,
            last_odometry: None,
            last_applied: None,
            dropped: 0,
            shutdown_since: None,
            instance: context.instance,
        })
    }

    fn drop_message(&mut self, topic: &str, reason: &str) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(topic, dropped = self.dropped, "{reason}; the message is dropped");
        }
    }

    fn on_odometry(&mut self, now: Time, m: &Odometry, out: &mut Outbox) {
        let (p, q) = (&m.pose.pose.position, &m.pose.pose.orientation);
        let (v, w) = (&m.twist.twist.linear, &m.twist.twist.angular);
        let q = Quaternion::new(q.w, q.x, q.y, q.z);
        let sound = [p.x, p.y, p.z, v.x, v.y, v.z, w.x, w.y, w.z].iter().all(|x| x.is_finite());
        let unit = (q.norm() - 1.0).abs() < 0.1;
        if !sound || !unit {
            return self.drop_message(ODOMETRY.name, NOT_FINITE);
        }
        self.last_odometry = Some(now);
        let orientation = UnitQuaternion::new_normalize(q);
        let setpoint = match self.overriding {
            Some((at, setpoint)) if now - at <= OVERRIDE_LIFE => setpoint,
            _ => self.setpoint,
        };
        let mut observation = setpoint.observation(
            &Vector3::new(p.x, p.y, p.z),
            &orientation,
            &(orientation * Vector3::new(v.x, v.y, v.z)),
            &Vector3::new(w.x, w.y, w.z),
        );
        if matches!(self.controller, Controller::Mlp(_)) {
            for error in &mut observation[..3] {
                *error = error.clamp(-MLP_REACH_M, MLP_REACH_M);
            }
        }
        let motors = match &mut self.controller {
            Controller::Geometric => self.geometric.command(&observation),
            Controller::Mlp(mlp) => {
                let mut action = [0.0; 4];
                if mlp.forward(&self.history.privileged(&observation), &mut action).is_err() {
                    return;
                }
                action
            }
        };
        out.publish(
            &COMMAND,
            sw::MotorCommand {
                header: Header { stamp: now.to_msg(), frame_id: String::new() },
                motors,
                source: sw::MotorCommand::SOURCE_GUIDE,
                policy_version: 0,
                odometry_stamp: m.header.stamp.clone(),
                warmth: 1.0,
                instance: self.instance,
                ..Default::default()
            },
        );
    }

    fn load_policy(&mut self, path: &str, out: &mut Outbox) -> sw::LoadPolicy_Response {
        if self.loading {
            return sw::LoadPolicy_Response {
                success: false,
                message: "another policy is being loaded".into(),
            };
        }
        if path == "geometric" {
            self.controller = Controller::Geometric;
            return sw::LoadPolicy_Response {
                success: true,
                message: "the geometric controller guides".into(),
            };
        }
        self.loading = true;
        let (path, requirements) = (path.to_owned(), self.requirements.clone());
        out.spawn(Job {
            name: LOAD_JOB,
            simulated_duration: Span::from_millis(20),
            work: Box::new(move || Box::new(load(&path, &requirements).map_err(|e| e.to_string()))),
        });
        sw::LoadPolicy_Response {
            success: true,
            message: "it is loaded and verified now; the log says the result".into(),
        }
    }
}

/// Loads a privileged network and verifies it as a student's is: size, format, shapes, finite values, observation, vehicle,
/// rate, self-test, and the signature when keys are set. The log says which file flies, by its sha256.
fn load(path: &str, requirements: &Requirements) -> Result<Box<Mlp>, BuildError> {
    let bytes = Policy::read(path.as_ref())?;
    let policy =
        Policy::from_bytes_verified(&bytes, requirements).map_err(|e| format!("policy_file {path}: {e}"))?;
    tracing::info!(sha256 = sha256(&bytes), "the guide's policy is verified: {path}");
    match policy.model() {
        Model::Mlp(mlp) => Ok(Box::new(mlp.clone())),
        Model::Spiking(_) => Err(format!("policy_file {path}: a spiking policy cannot guide").into()),
    }
}

/// The setpoint that a message moves `from` to.
fn moved(from: &Setpoint, m: &geometry_msgs::PoseStamped) -> Result<Setpoint, SetpointError> {
    let q = &m.pose.orientation;
    from.moved_to(m.pose.position.to_array(), [q.x, q.y, q.z, q.w])
}

impl Node for GuidePolicy {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&ODOMETRY)
            .input(&SETPOINT)
            .input(&OVERRIDE)
            .input(&APPLIED)
            .output(&COMMAND)
            .server(&LOAD)
            .timer(CHECK_TIMER, CHECK)
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&ODOMETRY) {
            self.on_odometry(now, m, out);
        } else if let Some(m) = message.on(&APPLIED) {
            if m.motors.iter().all(|v| v.is_finite()) {
                self.last_applied = Some(now);
                self.history.push(m.motors.map(|v| v.clamp(-1.0, 1.0)));
            } else {
                self.drop_message(APPLIED.name, NOT_FINITE);
            }
        } else if let Some(m) = message.on(&SETPOINT) {
            match moved(&self.setpoint, m) {
                Ok(setpoint) => self.setpoint = setpoint,
                Err(reason) => self.drop_message(SETPOINT.name, &reason.to_string()),
            }
        } else if let Some(m) = message.on(&OVERRIDE) {
            match moved(&self.setpoint, m) {
                Ok(setpoint) => self.overriding = Some((now, setpoint)),
                Err(reason) => self.drop_message(OVERRIDE.name, &reason.to_string()),
            }
        }
    }

    fn on_request(&mut self, _now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let request = request.on(&LOAD)?;
        Some(self.load_policy(&request.path, out).into())
    }

    fn on_job(&mut self, _now: Time, result: JobResult, _out: &mut Outbox) {
        self.loading = false;
        match result.result.map(|r| r.downcast::<Result<Box<Mlp>, String>>()) {
            Ok(Ok(loaded)) => match *loaded {
                Ok(mlp) => self.controller = Controller::Mlp(mlp),
                Err(reason) => tracing::warn!("~/load_policy: {reason}; the guide is as it was"),
            },
            Ok(Err(_)) => tracing::error!("~/load_policy: no result"),
            Err(panic) => tracing::error!("~/load_policy: {panic}"),
        }
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        let recent = |at: Option<Time>| at.is_some_and(|at| now - at < SHUTDOWN_QUIET);
        // While commands are applied somebody flies, perhaps by this guide.
        let needed = recent(self.last_odometry) && recent(self.last_applied);
        if needed && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
