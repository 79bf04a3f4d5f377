//! The student's control tick, and what happens between ticks.

use std::{collections::VecDeque, time::Instant};

use hdrhistogram::Histogram;
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_msgs::{
    AnyMessage, geometry_msgs,
    nav_msgs::Odometry,
    spikewing_msgs as sw,
    std_msgs::Header,
    std_srvs::{Trigger, Trigger_Response},
};
use spikewing_quad::Observation;
use spikewing_runtime::{
    Context, Node, Outbox, Parameters, Received, Span, Time,
    node::{BuildError, Job, JobResult, Request, Shutdown},
    port::{Input, Interface, Output, Qos, Server},
};
use spikewing_snn::Flight;

use crate::{
    settings::Settings,
    verify::{Origin, Verified},
};

const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
const SETPOINT: Input<geometry_msgs::PoseStamped> = Input::new("setpoint", Qos::sensor(1));
const UPDATE: Input<sw::PolicyUpdate> = Input::new("policy/update", Qos::latched());
const AUTHORITY: Input<sw::Authority> = Input::new("authority", Qos::latched());
const COMMAND: Output<sw::MotorCommand> = Output::new("student/command", Qos::sensor(1));
const STATUS: Output<sw::PolicyStatus> = Output::new("policy/status", Qos::latched());
const SWAP: Server<sw::SwapPolicy> = Server::new("~/swap_policy");
const LIST: Server<sw::ListPolicies> = Server::new("~/list_policies");
const ROLLBACK: Server<Trigger> = Server::new("~/rollback");

const STATUS_TIMER: &str = "status";
const STATUS_PERIOD: Span = Span::from_millis(500);
const VERIFY: &str = "verify policy";
const LIST_FILES: &str = "list policies";
/// Longest latency that is told apart, ns.
const LATENCY_LIMIT_NS: u64 = 1_000_000_000;
/// Longest that a stopping process goes on while the vehicle lands.
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);
const SHUTDOWN_QUIET: Span = Span::from_millis(300);

/// A network with its version.
struct Slot {
    flight: Flight,
    version: u64,
    sha256: String,
}

/// A policy that runs along without flying.
struct Shadow {
    slot: Slot,
    steps_left: u32,
}

/// The node's logic.
pub struct SnnPolicy {
    settings: Settings,
    setpoint: Vector3<f64>,
    active: Slot,
    shadow: Option<Shadow>,
    previous: Option<Slot>,
    /// Steps that the active network has seen since its membranes were cleared.
    warm_steps: u32,
    episode_id: Option<u64>,
    authority: u8,
    flying: bool,
    /// Version of the policy that a job verifies.
    verifying: Option<u64>,
    /// The newest policy that waits for the one being verified.
    waiting: Option<(Origin, u64)>,
    files: Vec<String>,
    rng: Xoshiro256PlusPlus,
    latency: Histogram<u64>,
    last_stamp: Option<Time>,
    last_odometry: Option<Time>,
    losses: VecDeque<Time>,
    swaps: u64,
    rollbacks: u64,
    refused: u64,
    last_refusal: String,
    ticks: u64,
    missed_ticks: u64,
    dropped: u64,
    shutdown_since: Option<Time>,
    instance: u64,
}

impl SnnPolicy {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When the policy file is refused.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let settings = Settings::read(context.parameters)?;
        let active =
            Slot { flight: Flight::new(&settings.first.0), version: 1, sha256: settings.first.1.clone() };
        Ok(Self {
            setpoint: settings.setpoint,
            rng: Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ 0x5EED),
            latency: Histogram::new_with_bounds(1, LATENCY_LIMIT_NS, 3)?,
            settings,
            active,
            shadow: None,
            previous: None,
            warm_steps: 0,
            episode_id: None,
            authority: sw::Authority::DISARMED,
            flying: false,
            verifying: None,
            waiting: None,
            files: Vec::new(),
            last_stamp: None,
            last_odometry: None,
            losses: VecDeque::with_capacity(64),
            swaps: 0,
            rollbacks: 0,
            refused: 0,
            last_refusal: String::new(),
            ticks: 0,
            missed_ticks: 0,
            dropped: 0,
            shutdown_since: None,
            instance: context.instance,
        })
    }

    // --- the control tick: no allocation, no lock, no waiting -------------------------------------------------------

    fn tick(&mut self, now: Time, m: &Odometry, out: &mut Outbox) {
        let started = Instant::now();
        let Some(observation) = observe(m, &self.setpoint) else {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(
                    dropped = self.dropped,
                    "odometry: a number is not finite; no command is given"
                );
            }
            return;
        };
        let stamp = Time::from(&m.header.stamp);
        self.count_missed(now, stamp);
        // A take-over happens between two ticks: here, before the first command of the new network.
        if self.shadow.as_ref().is_some_and(|s| s.steps_left == 0) {
            self.take_over();
        }
        let mut motors = [0.0; 4];
        if self.active.flight.step(&observation, &mut motors).is_err() {
            return;
        }
        self.warm_steps = self.warm_steps.saturating_add(1);
        if let Some(shadow) = &mut self.shadow {
            let mut unused = [0.0; 4];
            // The shadow is of the same shape, so that it cannot refuse what the active network took.
            let _ = shadow.slot.flight.step(&observation, &mut unused);
            shadow.steps_left = shadow.steps_left.saturating_sub(1);
        }
        let noise = self.settings.exploration_noise;
        if noise > 0.0 && self.authority == sw::Authority::STUDENT {
            for motor in &mut motors {
                *motor = (*motor + noise * self.rng.sample::<f32, _>(StandardNormal)).clamp(-1.0, 1.0);
            }
        }
        let warmth = self.warm_steps as f32 / self.settings.warmup_steps.max(1) as f32;
        out.publish(
            &COMMAND,
            sw::MotorCommand {
                header: Header { stamp: now.to_msg(), frame_id: String::new() },
                motors,
                source: sw::MotorCommand::SOURCE_STUDENT,
                policy_version: self.active.version,
                odometry_stamp: stamp.to_msg(),
                warmth: warmth.min(1.0),
                instance: self.instance,
            },
        );
        self.ticks += 1;
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds.clamp(1, LATENCY_LIMIT_NS));
    }

    fn count_missed(&mut self, now: Time, stamp: Time) {
        let period = self.settings.period.nanoseconds();
        if let Some(last) = self.last_stamp {
            let gap = (stamp - last).nanoseconds();
            // A gap of more than a second is a pause of the whole system, not a missed tick of ours.
            if gap > period * 3 / 2 && gap < 1_000_000_000 {
                self.missed_ticks += ((gap + period / 2) / period - 1).unsigned_abs();
            }
        }
        if (now - stamp).nanoseconds() > period {
            self.missed_ticks += 1;
        }
        self.last_stamp = Some(stamp);
        self.last_odometry = Some(now);
    }

    fn take_over(&mut self) {
        let Some(mut shadow) = self.shadow.take() else { return };
        std::mem::swap(&mut self.active, &mut shadow.slot);
        self.previous = Some(shadow.slot);
        self.swaps += 1;
        self.losses.clear();
        self.active.flight.clear_counters();
    }

    // --- between ticks ----------------------------------------------------------------------------------------------

    fn on_authority(&mut self, now: Time, m: &sw::Authority) {
        self.flying = !matches!(m.state, sw::Authority::DISARMED | sw::Authority::ARMING);
        if self.episode_id != Some(m.episode_id) {
            self.episode_id = Some(m.episode_id);
            self.active.flight.reset();
            self.warm_steps = 0;
            if let Some(shadow) = &mut self.shadow {
                // All membranes are cleared: the new network is as warm as the old one and can take over at once.
                shadow.slot.flight.reset();
                shadow.steps_left = 0;
            }
        }
        let lost = self.authority == sw::Authority::STUDENT && m.state == sw::Authority::RECOVER;
        self.authority = m.state;
        if lost && self.settings.rollback_after > 0 {
            self.losses.push_back(now);
            while self.losses.front().is_some_and(|at| now - *at > self.settings.rollback_window) {
                self.losses.pop_front();
            }
            if self.losses.len() >= self.settings.rollback_after as usize && self.previous.is_some() {
                tracing::warn!(
                    version = self.active.version,
                    "the policy lost authority {} times",
                    self.losses.len()
                );
                let _ = self.roll_back();
            }
        }
    }

    fn roll_back(&mut self) -> Result<String, String> {
        let mut slot = self.previous.take().ok_or("there is no previous policy")?;
        slot.flight.reset();
        let text = format!("version {} takes over when it is warm", slot.version);
        self.shadow = Some(Shadow { slot, steps_left: self.settings.warmup_steps });
        self.rollbacks += 1;
        self.losses.clear();
        Ok(text)
    }

    /// Of all that fly, run in shadow, are verified or wait for it.
    fn newest_version(&self) -> u64 {
        let shadow = self.shadow.as_ref().map(|s| s.slot.version);
        let waiting = self.waiting.as_ref().map(|(_, version)| *version);
        [shadow, self.verifying, waiting].into_iter().flatten().fold(self.active.version, u64::max)
    }

    fn propose(&mut self, origin: Origin, version: u64, out: &mut Outbox) {
        if self.verifying.is_some() {
            // Only the newest matters.
            self.waiting = Some((origin, version));
            return;
        }
        self.verifying = Some(version);
        let demands = self.settings.demands.clone();
        out.spawn(Job {
            name: VERIFY,
            simulated_duration: Span::from_millis(20),
            work: Box::new(move || Box::new(demands.verify(origin, version))),
        });
    }

    fn refuse(&mut self, reason: String) {
        tracing::warn!("policy refused: {reason}");
        self.refused += 1;
        self.last_refusal = reason;
    }

    fn on_update(&mut self, m: &sw::PolicyUpdate, out: &mut Outbox) {
        if m.version <= self.newest_version() {
            let newest = self.newest_version();
            // The same one again is no news: a latched topic may deliver it twice.
            if m.version != self.active.version && m.version != newest {
                self.refuse(format!("policy/update version {} is not above {newest}", m.version));
            }
            return;
        }
        self.propose(Origin::Update(Box::new(m.clone())), m.version, out);
    }

    fn on_verified(&mut self, now: Time, result: Result<Verified, String>, out: &mut Outbox) {
        match result {
            Ok(verified) => {
                tracing::debug!(version = verified.version, "{} runs in shadow", verified.origin);
                let slot =
                    Slot { flight: verified.flight, version: verified.version, sha256: verified.sha256 };
                self.shadow = Some(Shadow { slot, steps_left: self.settings.warmup_steps });
            }
            Err(reason) => self.refuse(reason),
        }
        if let Some((origin, version)) = self.waiting.take() {
            self.propose(origin, version, out);
        }
        self.publish_status(now, out);
    }

    fn swap_policy(&mut self, request: &sw::SwapPolicy_Request, out: &mut Outbox) -> sw::SwapPolicy_Response {
        let origin = match (request.path.as_str(), request.data.is_empty()) {
            ("", true) => {
                let message = "give a path or the policy's bytes".to_owned();
                return sw::SwapPolicy_Response { success: false, message, version: 0 };
            }
            ("", false) => Origin::Bytes(request.data.clone()),
            (path, _) => Origin::File(path.into()),
        };
        let version = self.newest_version() + 1;
        self.propose(origin, version, out);
        let message =
            "it is verified now, then runs in shadow; policy/status says when it flies or why not".to_owned();
        sw::SwapPolicy_Response { success: true, message, version }
    }

    fn list(&self) -> sw::ListPolicies_Response {
        let mut list = sw::ListPolicies_Response::default();
        let slots = [
            (Some(&self.active), "active"),
            (self.shadow.as_ref().map(|s| &s.slot), "shadow"),
            (self.previous.as_ref(), "previous"),
        ];
        for (slot, state) in slots {
            let Some(slot) = slot else { continue };
            list.names.push(format!("version {}", slot.version));
            list.versions.push(slot.version);
            list.states.push(state.to_owned());
            list.sha256.push(slot.sha256.clone());
        }
        for file in &self.files {
            list.names.push(file.clone());
            list.versions.push(0);
            list.states.push("file".to_owned());
            list.sha256.push(String::new());
        }
        list
    }

    fn refresh_files(&self, out: &mut Outbox) {
        let Some(folder) = self.settings.policy_dir.clone() else { return };
        let work = move || -> Box<dyn std::any::Any + Send> {
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .map(|entries| entries.filter_map(|e| Some(e.ok()?.path().display().to_string())).collect())
                .unwrap_or_default();
            files.retain(|f| f.ends_with(".safetensors"));
            files.sort();
            Box::new(files)
        };
        out.spawn(Job { name: LIST_FILES, simulated_duration: Span::from_millis(20), work: Box::new(work) });
    }

    fn publish_status(&self, now: Time, out: &mut Outbox) {
        let seconds = |ns: u64| ns as f32 * 1e-9;
        let layers = self.active.flight.shape().hidden.len();
        out.publish(
            &STATUS,
            sw::PolicyStatus {
                header: Header::new(now.to_msg(), ""),
                active_version: self.active.version,
                shadow_version: self.shadow.as_ref().map_or(0, |s| s.slot.version),
                warmup_left: self.shadow.as_ref().map_or(0, |s| s.steps_left),
                swaps: self.swaps,
                rollbacks: self.rollbacks,
                refused: self.refused,
                last_refusal: self.last_refusal.clone(),
                ticks: self.ticks,
                missed_ticks: self.missed_ticks,
                latency_p50: seconds(self.latency.value_at_quantile(0.5)),
                latency_p99: seconds(self.latency.value_at_quantile(0.99)),
                latency_max: seconds(self.latency.max()),
                firing_rate: (0..layers)
                    .map(|i| self.active.flight.firing_rate(i).unwrap_or(0.0) as f32)
                    .collect(),
            },
        );
    }
}

/// The observation; `None` when a number is not finite.
fn observe(m: &Odometry, setpoint: &Vector3<f64>) -> Option<Observation> {
    let (p, q) = (&m.pose.pose.position, &m.pose.pose.orientation);
    let (v, w) = (&m.twist.twist.linear, &m.twist.twist.angular);
    let q = Quaternion::new(q.w, q.x, q.y, q.z);
    let sound = [p.x, p.y, p.z, v.x, v.y, v.z, w.x, w.y, w.z].iter().all(|x| x.is_finite());
    let unit = (q.norm() - 1.0).abs() < 0.1;
    if !sound || !unit {
        return None;
    }
    let orientation = UnitQuaternion::new_normalize(q);
    let velocity = orientation * Vector3::new(v.x, v.y, v.z);
    let error = Vector3::new(p.x, p.y, p.z) - setpoint;
    Some(spikewing_quad::observation(&error, &orientation, &velocity, &Vector3::new(w.x, w.y, w.z)))
}

impl Node for SnnPolicy {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&ODOMETRY)
            .input(&SETPOINT)
            .input(&UPDATE)
            .input(&AUTHORITY)
            .output(&COMMAND)
            .output(&STATUS)
            .server(&SWAP)
            .server(&LIST)
            .server(&ROLLBACK)
            .timer(STATUS_TIMER, STATUS_PERIOD)
    }

    fn on_start(&mut self, now: Time, out: &mut Outbox) {
        self.publish_status(now, out);
        self.refresh_files(out);
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&ODOMETRY) {
            self.tick(now, m, out);
        } else if let Some(m) = message.on(&AUTHORITY) {
            self.on_authority(now, m);
        } else if let Some(m) = message.on(&UPDATE) {
            self.on_update(m, out);
        } else if let Some(m) = message.on(&SETPOINT) {
            let p = m.pose.position.to_array();
            if p.iter().all(|v| v.is_finite()) {
                self.setpoint = Vector3::from(p);
            }
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        self.publish_status(now, out);
    }

    fn on_request(&mut self, _now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        if let Some(request) = request.on(&SWAP) {
            return Some(self.swap_policy(request, out).into());
        }
        if request.on(&LIST).is_some() {
            self.refresh_files(out);
            return Some(self.list().into());
        }
        request.on(&ROLLBACK)?;
        let (success, message) = match self.roll_back() {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        Some(Trigger_Response { success, message }.into())
    }

    fn on_job(&mut self, now: Time, result: JobResult, out: &mut Outbox) {
        if result.name == LIST_FILES {
            if let Some(files) = result.result.ok().and_then(|r| r.downcast::<Vec<String>>().ok()) {
                self.files = *files;
            }
            return;
        }
        self.verifying = None;
        let verified = match result.result.map(|r| r.downcast::<Result<Verified, String>>()) {
            Ok(Ok(verified)) => *verified,
            Ok(Err(_)) => Err("the verification gave no result".to_owned()),
            Err(panic) => Err(format!("the verification failed: {panic}")),
        };
        self.on_verified(now, verified, out);
    }

    fn on_parameters(&mut self, _now: Time, new: &Parameters, _out: &mut Outbox) -> Result<(), String> {
        self.settings.exploration_noise = new.float("exploration_noise").map_err(|e| e.to_string())? as f32;
        Ok(())
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        let fed = self.last_odometry.is_some_and(|at| now - at < SHUTDOWN_QUIET);
        if self.flying && fed && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
