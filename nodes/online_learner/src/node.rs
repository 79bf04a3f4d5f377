//! The learner's logic: queue experience, start jobs, publish what they bring.

use spikewing_msgs::{
    AnyMessage, spikewing_msgs as sw,
    std_msgs::Header,
    std_srvs::{SetBool, SetBool_Response, Trigger, Trigger_Response},
};
use spikewing_rl::replay::{End, Source, Step};
use spikewing_runtime::{
    Context, Node, Outbox, Received, Span, Time,
    node::{BuildError, Finish, Job, JobResult, Request, Shutdown},
    port::{Input, Interface, Output, Qos, Server},
};

use spikewing_snn::policy::hex;

use crate::{
    desk::{Assignment, Desk, Outcome, Publication, Record, mean},
    settings::Settings,
};

const EXPERIENCE: Input<sw::Experience> = Input::new("experience", Qos::reliable(1000));
const POLICY: Input<sw::PolicyStatus> = Input::new("policy/status", Qos::latched());
const UPDATE: Output<sw::PolicyUpdate> = Output::new("policy/update", Qos::latched());
const STATUS: Output<sw::LearnerStatus> = Output::new("learner/status", Qos::reliable(10));
const JUMP_START: Output<sw::JumpStart> = Output::new("learner/jump_start", Qos::latched());
const PAUSE: Server<SetBool> = Server::new("~/pause");
const CHECKPOINT: Server<Trigger> = Server::new("~/checkpoint");

const TICK: &str = "status";
const TICK_PERIOD: Span = Span::from_millis(1000);
const JOB: &str = "learn";
/// Records that wait for the learner's thread; a hundred actors for ten minutes would not fill it.
const QUEUE_LIMIT: usize = 200_000;
/// Longest that a stopping process waits for a job, to write its checkpoint.
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);

/// The node's logic.
pub struct OnlineLearner {
    settings: Settings,
    /// Away while a job works on it.
    desk: Option<Box<Desk>>,
    status: sw::LearnerStatus,
    queue: Vec<Record>,
    /// Updates that the experience so far allows but that were not begun.
    budget: f64,
    received: u64,
    dropped: u64,
    refused: u64,
    flying_version: u64,
    jump_start: Option<u32>,
    paused: bool,
    checkpoint_asked: bool,
    stopping: Option<Time>,
    saved: bool,
}

impl OnlineLearner {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When the run folder cannot be written, or a file is refused.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let settings = Settings::read(context.parameters)?;
        let desk = Desk::open(&settings, Time::wall().seconds())?;
        let received = desk.trainer.environment_steps();
        let mut learner = Self {
            settings,
            desk: Some(Box::new(desk)),
            status: sw::LearnerStatus::default(),
            queue: Vec::new(),
            budget: 0.0,
            received,
            dropped: 0,
            refused: 0,
            flying_version: 0,
            jump_start: None,
            paused: false,
            checkpoint_asked: false,
            stopping: None,
            saved: false,
        };
        learner.refresh_status();
        Ok(learner)
    }

    fn on_experience(&mut self, now: Time, m: &sw::Experience, out: &mut Outbox) {
        if self.queue.len() >= QUEUE_LIMIT {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(
                    dropped = self.dropped,
                    "experience comes faster than it is learned from; records are dropped"
                );
            }
            return;
        }
        let end = match (m.terminated, m.truncated) {
            (true, _) => Some(End::Terminated),
            (false, true) => Some(End::Truncated),
            (false, false) => None,
        };
        let source = match m.source {
            sw::MotorCommand::SOURCE_STUDENT => Source::Student,
            _ => Source::Guide,
        };
        // NaN is how the supervisor says that there was no fresh guide.
        let advice = m.guide_action.iter().all(|v| v.is_finite()).then_some(m.guide_action);
        let step_record = Step { observation: m.observation, action: m.action, source, advice, end };
        self.queue.push(Record {
            actor: m.actor_id.clone(),
            episode: m.episode_id,
            step: m.step,
            step_record,
        });
        self.received += 1;
        if self.received > self.settings.start_steps {
            self.budget += self.settings.update_ratio;
        }
        self.start_job(now, end.is_some(), out);
    }

    /// Starts a job if there is something to do and the learner is at its desk.
    fn start_job(&mut self, now: Time, episode_over: bool, out: &mut Outbox) {
        let free_running = self.settings.update_ratio == 0.0 && self.received > self.settings.start_steps;
        let per_job = self.settings.updates_per_job;
        let due = free_running || self.budget >= per_job as f64;
        let learn = due && !self.paused && self.stopping.is_none();
        if !(learn || episode_over || self.checkpoint_asked) || self.desk.is_none() {
            return;
        }
        let Some(mut desk) = self.desk.take() else { return };
        let updates = if learn { per_job } else { 0 };
        desk.heard_of(std::mem::take(&mut self.flying_version));
        if !free_running {
            self.budget -= updates as f64;
        }
        let assignment = Assignment {
            records: std::mem::take(&mut self.queue),
            updates,
            time_s: now.seconds(),
            checkpoint: std::mem::take(&mut self.checkpoint_asked),
        };
        let simulated_duration = if learn { self.settings.job_duration } else { Span::from_millis(10) };
        let work = move || -> Box<dyn std::any::Any + Send> {
            let outcome = desk.work(assignment);
            Box::new((desk, outcome))
        };
        out.spawn(Job { name: JOB, simulated_duration, work: Box::new(work) });
    }

    fn on_outcome(&mut self, now: Time, desk: Box<Desk>, outcome: Outcome, out: &mut Outbox) {
        for problem in &outcome.problems {
            tracing::warn!("{problem}");
        }
        self.refused += outcome.refused;
        self.desk = Some(desk);
        if let Some(reason) = outcome.fatal {
            out.finish(Finish::Failure(reason));
            return;
        }
        if let Some(publication) = outcome.publication {
            publish_policy(now, publication, out);
        }
        if outcome.updates > 0 && outcome.seconds > 0.0 {
            self.status.updates_per_second = (outcome.updates as f64 / outcome.seconds) as f32;
        }
        self.refresh_status();
        self.publish_jump_start(now, out);
        self.publish_status(now, out);
        let stop = self.settings.stop;
        let reached = |limit: u64, value: u64| limit > 0 && value >= limit;
        if reached(stop.updates, self.status.updates) || reached(stop.steps, self.status.environment_steps) {
            if let Some(Err(reason)) = self.desk.as_mut().map(|d| d.save()) {
                return out.finish(Finish::Failure(reason));
            }
            return out.finish(Finish::Success);
        }
        self.start_job(now, false, out);
    }

    fn refresh_status(&mut self) {
        let Some(desk) = &self.desk else { return };
        let (t, p) = (&desk.trainer, &desk.progress);
        let s = &mut self.status;
        s.environment_steps = t.environment_steps();
        s.episodes = t.episodes();
        s.updates = t.updates();
        s.epoch = t.epoch();
        s.policy_version = p.policy_version;
        s.return_mean = mean(&p.returns) as f32;
        s.evaluation_return = p.evaluation_return.map_or(f32::NAN, |r| r as f32);
        s.return_last = p.return_last as f32;
        s.episode_length = mean(&p.lengths) as f32;
        s.guide_share = mean(&p.guide_shares) as f32;
        s.surrogate_slope = t.slope() as f32;
        s.lambda_bc = t.lambda_bc() as f32;
        s.curriculum_stage = t.stage() as u32;
        s.critic_loss = p.stats.critic_loss;
        s.actor_loss = p.stats.actor_loss;
        s.bc_loss = p.stats.bc_loss;
        s.q_mean = p.stats.q_mean;
        s.replay_fill = (t.replay().steps() as f64 / t.replay().capacity_steps().max(1) as f64) as f32;
    }

    fn publish_status(&self, now: Time, out: &mut Outbox) {
        out.publish(
            &STATUS,
            sw::LearnerStatus { header: Header::new(now.to_msg(), ""), ..self.status.clone() },
        );
    }

    fn publish_jump_start(&mut self, now: Time, out: &mut Outbox) {
        let Some(desk) = &self.desk else { return };
        let guide_steps = desk.trainer.guide_steps();
        if self.jump_start == Some(guide_steps) {
            return;
        }
        self.jump_start = Some(guide_steps);
        let episode_steps = self.settings.config.jump_start.episode_steps;
        out.publish(
            &JUMP_START,
            sw::JumpStart { header: Header::new(now.to_msg(), ""), guide_steps, episode_steps },
        );
    }
}

fn publish_policy(now: Time, publication: Publication, out: &mut Outbox) {
    out.publish(
        &UPDATE,
        sw::PolicyUpdate {
            header: Header::new(now.to_msg(), ""),
            version: publication.version,
            parent_version: publication.parent,
            format: "safetensors".into(),
            sha256: hex(&publication.sha256),
            data: publication.bytes,
            signature: publication.signature,
            return_estimate: publication.return_estimate as f32,
        },
    );
}

impl Node for OnlineLearner {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&EXPERIENCE)
            .input(&POLICY)
            .output(&UPDATE)
            .output(&STATUS)
            .output(&JUMP_START)
            .server(&PAUSE)
            .server(&CHECKPOINT)
            .timer(TICK, TICK_PERIOD)
    }

    fn on_start(&mut self, now: Time, out: &mut Outbox) {
        // A learner that goes on has something to fly already.
        if let Some(desk) = self.desk.as_mut().filter(|d| d.trainer.updates() > 0) {
            match desk.publication() {
                Ok(publication) => publish_policy(now, publication, out),
                Err(reason) => tracing::warn!("{reason}"),
            }
        }
        self.publish_jump_start(now, out);
        self.publish_status(now, out);
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&EXPERIENCE) {
            self.on_experience(now, m, out);
        } else if let Some(m) = message.on(&POLICY) {
            // After a crash the student flies a version that is newer than the last checkpoint.
            self.flying_version = self.flying_version.max(m.active_version).max(m.shadow_version);
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        self.publish_status(now, out);
        self.start_job(now, false, out);
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        if let Some(request) = request.on(&PAUSE) {
            self.paused = request.data;
            let message =
                if self.paused { "paused: experience is kept, nothing is learned" } else { "learning" };
            return Some(SetBool_Response { success: true, message: message.into() }.into());
        }
        request.on(&CHECKPOINT)?;
        let folder = self.settings.run_dir.as_ref().map(|d| d.display().to_string());
        let (success, message) = match folder {
            Some(folder) => {
                self.checkpoint_asked = true;
                self.start_job(now, false, out);
                (true, format!("a checkpoint is written to {folder}"))
            }
            None => (false, "there is no run folder; set the parameter run_dir".to_owned()),
        };
        Some(Trigger_Response { success, message }.into())
    }

    fn on_job(&mut self, now: Time, result: JobResult, out: &mut Outbox) {
        match result.result.map(|r| r.downcast::<(Box<Desk>, Outcome)>()) {
            Ok(Ok(brought)) => {
                let (desk, outcome) = *brought;
                self.on_outcome(now, desk, outcome, out);
            }
            Ok(Err(_)) => out.finish(Finish::Failure("the learner's job brought nothing back".into())),
            Err(panic) => {
                let text = format!(
                    "the learner failed: {panic}; start again with `resume`, it goes on from its checkpoint"
                );
                out.finish(Finish::Failure(text));
            }
        }
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.stopping.get_or_insert(now);
        if self.saved {
            return Shutdown::Done;
        }
        match &mut self.desk {
            Some(desk) => {
                self.saved = true;
                let saved = if self.settings.checkpoint_on_stop { desk.save() } else { desk.save_policy() };
                if let Err(reason) = saved {
                    tracing::error!("not saved: {reason}");
                }
                Shutdown::Done
            }
            None if now - since < SHUTDOWN_LIMIT => Shutdown::Wait,
            None => Shutdown::Done,
        }
    }
}
