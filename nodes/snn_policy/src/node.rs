//! The student's control tick, and what happens between ticks.

use std::time::Instant;

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
use spikewing_quad::{Observation, Setpoint};
use spikewing_runtime::{
    Context, Node, Outbox, Parameters, Received, Span, Time,
    node::{BuildError, Job, JobResult, Request, Shutdown},
    port::{Input, Interface, Output, Qos, Server},
};
use spikewing_snn::{
    Flight,
    policy::{Model, hex},
};

use crate::{
    cadence::Cadence,
    intake::{Arrival, Intake},
    latency::Latency,
    roster::{Consequence, Roster, Slot},
    settings::{EXPLORATION_NOISE, Settings},
    verify::{Origin, Verdict},
};

const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
const SETPOINT: Input<geometry_msgs::PoseStamped> = Input::new("target", Qos::latched());
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
/// Version of the policy that flies first; a learner's are above it.
const FIRST_VERSION: u64 = 1;
/// Refusals that are logged one by one.
const TOLD_ONE_BY_ONE: u64 = 10;
/// Longest that a stopping process goes on while the vehicle lands.
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);
const SHUTDOWN_QUIET: Span = Span::from_millis(300);

/// The node's logic.
pub struct SnnPolicy {
    settings: Settings,
    setpoint: Setpoint,
    roster: Roster,
    intake: Intake,
    cadence: Cadence,
    /// Steps that the active network has seen since its membranes were cleared.
    warm_steps: u32,
    episode_id: Option<u64>,
    authority: u8,
    flying: bool,
    files: Vec<String>,
    rng: Xoshiro256PlusPlus,
    latency: Latency,
    /// From a policy's arrival until it was ready, and from there until it took over.
    readiness: Latency,
    takeover: Latency,
    last_odometry: Option<Time>,
    swaps: u64,
    rollbacks: u64,
    refused: u64,
    last_refusal: String,
    ticks: u64,
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
        let (network, sha256) = &settings.first;
        let content = Model::Spiking(network.clone()).content();
        let first = Slot::new(Flight::new(network), FIRST_VERSION, *sha256, content, Time::ZERO);
        Ok(Self {
            setpoint: settings.setpoint,
            rng: Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ 0x5EED),
            roster: Roster::new(first, settings.rules),
            intake: Intake::new(FIRST_VERSION, settings.update_bytes),
            cadence: Cadence::new(settings.period),
            latency: Latency::new()?,
            readiness: Latency::new()?,
            takeover: Latency::new()?,
            settings,
            warm_steps: 0,
            episode_id: None,
            authority: sw::Authority::DISARMED,
            flying: false,
            files: Vec::new(),
            last_odometry: None,
            swaps: 0,
            rollbacks: 0,
            refused: 0,
            last_refusal: String::new(),
            ticks: 0,
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
        self.cadence.note(now, stamp);
        self.last_odometry = Some(now);
        // A take-over happens between two ticks: here, before the first command of the new network.
        if let Some(ready) = self.roster.take_over() {
            self.swaps += 1;
            self.takeover.note(now - ready);
        }
        let mut motors = [0.0; 4];
        if self.roster.step(&observation, &mut motors).is_err() {
            return;
        }
        self.warm_steps = self.warm_steps.saturating_add(1);
        if self.authority == sw::Authority::STUDENT {
            self.roster.note_flown();
        }
        let noise = self.settings.exploration_noise;
        if noise > 0.0 && self.authority == sw::Authority::STUDENT {
            for motor in &mut motors {
                *motor = (*motor + noise * self.rng.sample::<f32, _>(StandardNormal)).clamp(-1.0, 1.0);
            }
        }
        // Who may not fly any more is never warm: the supervisor leaves the vehicle to the guide.
        let warmth = match self.roster.grounded() {
            true => 0.0,
            false => self.warm_steps as f32 / self.settings.rules.warmup_steps.max(1) as f32,
        };
        out.publish(
            &COMMAND,
            sw::MotorCommand {
                header: Header { stamp: now.to_msg(), frame_id: String::new() },
                motors,
                source: sw::MotorCommand::SOURCE_STUDENT,
                policy_version: self.roster.active().version,
                odometry_stamp: stamp.to_msg(),
                warmth: warmth.min(1.0),
                instance: self.instance,
                ..Default::default()
            },
        );
        self.ticks += 1;
        self.latency
            .note(Span::from_nanoseconds(i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX)));
    }

    // --- between ticks ----------------------------------------------------------------------------------------------

    fn on_authority(&mut self, now: Time, m: &sw::Authority) {
        self.flying = !matches!(m.state, sw::Authority::DISARMED | sw::Authority::ARMING);
        if self.episode_id != Some(m.episode_id) {
            self.episode_id = Some(m.episode_id);
            self.roster.new_episode();
            self.warm_steps = 0;
        }
        // The supervisor names a policy on the way out of STUDENT when it was that policy's fault.
        let lost = self.authority == sw::Authority::STUDENT && m.state != sw::Authority::STUDENT;
        self.authority = m.state;
        if lost && m.policy_version != 0 {
            self.on_loss(now, m.policy_version);
        }
    }

    fn on_loss(&mut self, now: Time, version: u64) {
        match self.roster.note_loss(now, version) {
            Consequence::Noted => {}
            Consequence::RolledBack(back) => {
                self.rollbacks += 1;
                tracing::warn!(version, "the policy lost authority too often; version {back} comes back");
            }
            Consequence::Barred => {
                tracing::warn!(version, "the policy lost authority too often; it is not tried again");
            }
            Consequence::Stays => {
                tracing::warn!(
                    version,
                    "the policy lost authority often, but no other is there that proved itself"
                );
            }
            Consequence::Grounded => {
                tracing::error!(
                    version,
                    "the policy lost authority too often and no other is there: the guide flies until one is swapped in"
                );
            }
        }
    }

    /// Verifies what waits, away from the control tick.
    fn verify_waiting(&mut self, out: &mut Outbox) {
        let Some(batch) = self.intake.next_batch() else { return };
        let (demands, spare) = (self.settings.demands.clone(), self.roster.spare());
        out.spawn(Job {
            name: VERIFY,
            simulated_duration: Span::from_millis(20),
            work: Box::new(move || Box::new(demands.verify(batch, spare))),
        });
    }

    fn refuse(&mut self, reason: String) {
        self.refused += 1;
        // A stranger may send thousands.
        if self.refused <= TOLD_ONE_BY_ONE || self.refused.is_power_of_two() {
            tracing::warn!(refused = self.refused, "policy refused: {reason}");
        }
        self.last_refusal = reason;
    }

    fn on_update(&mut self, now: Time, m: &sw::PolicyUpdate, out: &mut Outbox) {
        match self.intake.update(now, m, self.settings.demands.updates) {
            Arrival::Waits => self.verify_waiting(out),
            Arrival::Known => {}
            Arrival::Refused(reason) => self.refuse(reason),
        }
    }

    fn on_verdict(&mut self, now: Time, verdict: Verdict, out: &mut Outbox) {
        for reason in verdict.refusals {
            self.refuse(reason);
        }
        self.intake.verified(verdict.verified.as_ref().map(|v| v.version));
        self.roster.keep(verdict.spare);
        if let Some(v) = verdict.verified {
            self.readiness.note(now - v.arrived);
            tracing::debug!(version = v.version, "{} is verified", v.origin);
            let slot = Slot::new(v.flight, v.version, Some(v.sha256), v.content, now);
            if let Err(reason) = self.roster.offer(slot) {
                self.refuse(reason);
            }
        }
        self.verify_waiting(out);
        self.publish_status(now, out);
    }

    fn roll_back(&mut self) -> Result<String, String> {
        let version = self.roster.roll_back()?;
        self.rollbacks += 1;
        Ok(format!("version {version} takes over when it is warm"))
    }

    fn swap_policy(
        &mut self,
        now: Time,
        request: &sw::SwapPolicy_Request,
        out: &mut Outbox,
    ) -> sw::SwapPolicy_Response {
        let origin = match (request.path.as_str(), request.data.is_empty()) {
            ("", true) => {
                let message = "give a path or the policy's bytes".to_owned();
                return sw::SwapPolicy_Response { success: false, message, version: 0 };
            }
            ("", false) => Origin::Bytes(request.data.clone()),
            (path, _) => Origin::File(path.into()),
        };
        let version = self.intake.by_hand(now, origin);
        self.verify_waiting(out);
        let message =
            "it is verified now, then runs in shadow; policy/status says when it flies or why not".to_owned();
        sw::SwapPolicy_Response { success: true, message, version }
    }

    fn list(&self) -> sw::ListPolicies_Response {
        let mut list = sw::ListPolicies_Response::default();
        for (slot, state) in self.roster.all() {
            list.names.push(format!("version {}", slot.version));
            list.versions.push(slot.version);
            list.states.push(state.to_owned());
            list.sha256.push(slot.sha256.map(|digest| hex(&digest)).unwrap_or_default());
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
        let active = self.roster.active();
        let (shadow_version, warmup_left) = self.roster.warming().unwrap_or_default();
        let (latency, readiness, takeover) =
            (self.latency.figures(), self.readiness.figures(), self.takeover.figures());
        let barred = self.roster.barred().map(|b| {
            format!(
                "version {} (weights {}): lost authority {} times",
                b.version,
                hex(&b.content[..8]),
                b.losses
            )
        });
        out.publish(
            &STATUS,
            sw::PolicyStatus {
                header: Header::new(now.to_msg(), ""),
                active_version: active.version,
                shadow_version,
                warmup_left,
                swaps: self.swaps,
                rollbacks: self.rollbacks,
                refused: self.refused,
                last_refusal: self.last_refusal.clone(),
                ticks: self.ticks,
                missed_ticks: self.cadence.missed(),
                latency_p50: latency.p50,
                latency_p99: latency.p99,
                latency_max: latency.max,
                firing_rate: (0..active.flight.shape().hidden.len())
                    .map(|i| active.flight.firing_rate(i).unwrap_or(0.0) as f32)
                    .collect(),
                waiting_version: self.roster.next().unwrap_or(0),
                proven_version: self.roster.fallback().unwrap_or(0),
                barred: barred.collect(),
                ready_p50: readiness.p50,
                ready_p99: readiness.p99,
                ready_max: readiness.max,
                takeover_p50: takeover.p50,
                takeover_p99: takeover.p99,
                takeover_max: takeover.max,
            },
        );
    }
}

/// The observation; `None` when a number is not finite.
fn observe(m: &Odometry, setpoint: &Setpoint) -> Option<Observation> {
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
    let (position, rates) = (Vector3::new(p.x, p.y, p.z), Vector3::new(w.x, w.y, w.z));
    Some(setpoint.observation(&position, &orientation, &velocity, &rates))
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
            self.on_update(now, m, out);
        } else if let Some(m) = message.on(&SETPOINT) {
            let q = &m.pose.orientation;
            match self.setpoint.moved_to(m.pose.position.to_array(), [q.x, q.y, q.z, q.w]) {
                Ok(setpoint) => self.setpoint = setpoint,
                Err(reason) => {
                    self.dropped += 1;
                    if self.dropped.is_power_of_two() {
                        tracing::warn!(dropped = self.dropped, "{}: {reason}; it is ignored", SETPOINT.name);
                    }
                }
            }
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        self.publish_status(now, out);
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        if let Some(request) = request.on(&SWAP) {
            return Some(self.swap_policy(now, request, out).into());
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
        let failed = |reason: String| Verdict { refusals: vec![reason], ..Verdict::default() };
        let verdict = match result.result.map(|r| r.downcast::<Verdict>()) {
            Ok(Ok(verdict)) => *verdict,
            Ok(Err(_)) => failed("the verification gave no result".to_owned()),
            Err(panic) => failed(format!("the verification failed: {panic}")),
        };
        self.on_verdict(now, verdict, out);
    }

    fn on_parameters(&mut self, _now: Time, new: &Parameters, _out: &mut Outbox) -> Result<(), String> {
        self.settings.exploration_noise = new.get(&EXPLORATION_NOISE).map_err(|e| e.to_string())? as f32;
        Ok(())
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        let fed = self.last_odometry.is_some_and(|at| now - at < SHUTDOWN_QUIET);
        if self.flying && fed && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
