//! Listens to the nodes of a launch, says who flies when that changes hands, and shows progress now and then.

use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::{
    NodeKind, NodeOptions, Outbox, Received, Span, Time, console,
    launch::LaunchNode,
    node::{BuildError, Context, Node, Urgency},
    port::{Input, Interface, Qos},
};

const LEARNER: Input<sw::LearnerStatus> = Input::new("learner/status", Qos::reliable(10));
const POLICY: Input<sw::PolicyStatus> = Input::new("policy/status", Qos::latched());
const AUTHORITY: Input<sw::Authority> = Input::new("authority", Qos::latched());
const VEHICLE: Input<sw::VehicleStatus> = Input::new("vehicle/status", Qos::sensor(5));

const LOOK: Span = Span::from_millis(250);
const PROGRESS: Span = Span::from_millis(5000);
/// What is older says nothing about the present. Supervisor and bridge speak at least twice a second.
const FRESH: Span = Span::from_millis(1500);

/// Who has the vehicle, as far as can be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pilot {
    /// One of the suite's policies, in the supervisor's words.
    Suite(&'static str),
    /// The autopilot by itself.
    Autopilot(String),
    /// The motors are off.
    Nobody,
    /// It cannot be heard.
    Unknown(&'static str),
}

impl Pilot {
    fn of(
        now: Time,
        authority: Option<&(Time, sw::Authority)>,
        vehicle: Option<&(Time, sw::VehicleStatus)>,
    ) -> Self {
        const MODES: [&str; 4] = ["another mode", "offboard", "hold", "land"];
        const STATES: [&str; 7] = ["disarmed", "arming", "guide", "student", "recover", "land", "hold"];
        let Some((_, vehicle)) = vehicle.filter(|(at, v)| now - *at < FRESH && v.connected) else {
            return Self::Unknown("no word from the autopilot");
        };
        if !vehicle.armed {
            return Self::Nobody;
        }
        if vehicle.mode != sw::VehicleStatus::MODE_OFFBOARD {
            let mode = MODES.get(usize::from(vehicle.mode)).unwrap_or(&MODES[0]);
            let why = if vehicle.failsafe { ", failsafe" } else { "" };
            return Self::Autopilot(format!("{mode}{why}"));
        }
        match authority.filter(|(at, _)| now - *at < FRESH) {
            Some((_, authority)) => Self::Suite(STATES.get(usize::from(authority.state)).unwrap_or(&"?")),
            None => Self::Unknown("no word from the supervisor"),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Suite(state @ ("disarmed" | "arming")) => {
                format!("armed, and the supervisor says: {state}")
            }
            Self::Suite(state) => format!("{state} flies"),
            Self::Autopilot(mode) => format!("the autopilot flies by itself ({mode})"),
            Self::Nobody => "disarmed".to_owned(),
            Self::Unknown(why) => format!("who flies is not known: {why}"),
        }
    }

    /// Guide and student take turns all the time; the rest is news.
    fn is_news_after(&self, before: &Self) -> bool {
        !matches!((self, before), (Self::Suite(_), Self::Suite(_))) && self != before
    }
}

/// See the module.
#[derive(Default)]
pub struct Monitor {
    /// Of several drones, which one it tells of.
    drone: String,
    learner: Option<sw::LearnerStatus>,
    policy: Option<sw::PolicyStatus>,
    authority: Option<(Time, sw::Authority)>,
    vehicle: Option<(Time, sw::VehicleStatus)>,
    told: Option<Pilot>,
    printed: Option<Time>,
}

/// The monitor as a node.
pub const MONITOR: NodeKind = NodeKind {
    name: "launch_monitor",
    about: "Shows the progress of a launch",
    urgency: Urgency::Background,
    declare: Vec::new,
    build: |context: &Context<'_>| -> Result<Box<dyn Node>, BuildError> {
        Ok(Box::new(Monitor::of(context.namespace)))
    },
};

/// One monitor for each drone of a launch, known by the namespaces of the supervisors; the first tells of the learner, too.
pub fn monitors(nodes: &[LaunchNode]) -> Vec<NodeOptions> {
    let mut namespaces: Vec<&str> = Vec::new();
    for node in nodes.iter().filter(|n| n.exec == "supervisor") {
        if !namespaces.contains(&node.namespace.as_str()) {
            namespaces.push(&node.namespace);
        }
    }
    if namespaces.is_empty() {
        namespaces.push("/");
    }
    let learner = nodes.iter().find(|n| n.exec == "online_learner").map_or("/", |n| &n.namespace);
    let learner = format!("{}/learner/status", learner.trim_end_matches('/'));
    let mut all = Vec::new();
    for (index, namespace) in namespaces.into_iter().enumerate() {
        let mut options = NodeOptions { namespace: namespace.to_owned(), ..NodeOptions::of(&MONITOR) };
        if index == 0 {
            options.remaps.push((LEARNER.name.to_owned(), learner.clone()));
        }
        all.push(options);
    }
    all
}

impl Monitor {
    /// Of the drone in that namespace.
    pub fn of(namespace: &str) -> Self {
        Self { drone: namespace.trim_matches('/').to_owned(), ..Self::default() }
    }

    /// A message of a run in this process, by the full name of its topic.
    pub fn see(
        &mut self,
        options: &NodeOptions,
        now: Time,
        topic: &str,
        message: &spikewing_msgs::AnyMessage,
    ) {
        let ports = [LEARNER.name, POLICY.name, AUTHORITY.name, VEHICLE.name];
        let Some(port) = ports.into_iter().find(|port| options.resolve(port) == topic) else { return };
        let received = Received { port, message };
        self.on_message(now, &received, &mut Outbox::new());
        self.tell(now);
    }

    fn tell(&mut self, now: Time) {
        if self.authority.is_none() && self.vehicle.is_none() && self.learner.is_none() {
            return;
        }
        let pilot = Pilot::of(now, self.authority.as_ref(), self.vehicle.as_ref());
        if self.told.as_ref().is_some_and(|before| pilot.is_news_after(before)) {
            console::say(&format!("{}{}", self.prefix(), pilot.in_words()));
        }
        let due = self.printed.is_none_or(|at| now - at >= PROGRESS || now < at);
        if due {
            self.printed = Some(now);
            console::say(&self.progress(&pilot));
        }
        self.told = Some(pilot);
    }

    fn prefix(&self) -> String {
        if self.drone.is_empty() { String::new() } else { format!("{}: ", self.drone) }
    }

    fn progress(&self, pilot: &Pilot) -> String {
        let mut line = format!("{}{}", self.prefix(), pilot.in_words());
        if let Some((_, a)) = &self.authority {
            line += &format!(", episode {}, takeovers {}", a.episode_id, a.takeovers);
        }
        if let Some(p) = &self.policy {
            line += &format!(
                "; policy {} ({} swaps), {} ticks, {} missed, p99 {:.0} µs",
                p.active_version,
                p.swaps,
                p.ticks,
                p.missed_ticks,
                1e6 * p.latency_p99
            );
        }
        if let Some(l) = &self.learner {
            line += &format!(
                "; return {:.1} (flown {:.1}), k {:.1}, λ_BC {:.3}, guide {:.0} %, {} updates ({:.0}/s)",
                l.evaluation_return,
                l.return_mean,
                l.surrogate_slope,
                l.lambda_bc,
                100.0 * l.guide_share,
                l.updates,
                l.updates_per_second
            );
        }
        line
    }
}

impl Node for Monitor {
    fn interface(&self) -> Interface {
        Interface::new().input(&LEARNER).input(&POLICY).input(&AUTHORITY).input(&VEHICLE).timer("look", LOOK)
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, _out: &mut Outbox) {
        if let Some(m) = message.on(&LEARNER) {
            self.learner = Some(m.clone());
        } else if let Some(m) = message.on(&POLICY) {
            self.policy = Some(m.clone());
        } else if let Some(m) = message.on(&AUTHORITY) {
            self.authority = Some((now, m.clone()));
        } else if let Some(m) = message.on(&VEHICLE) {
            self.vehicle = Some((now, m.clone()));
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, _out: &mut Outbox) {
        self.tell(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_said_to_fly_who_is_not_heard() {
        let at = |ms| Time::ZERO + Span::from_millis(ms);
        let flying = sw::VehicleStatus {
            connected: true,
            armed: true,
            mode: sw::VehicleStatus::MODE_OFFBOARD,
            ..sw::VehicleStatus::default()
        };
        let guide = sw::Authority { state: sw::Authority::GUIDE, ..sw::Authority::default() };
        let (authority, vehicle) = ((at(1000), guide), (at(1000), flying.clone()));
        let pilot =
            |now, vehicle: &(Time, sw::VehicleStatus)| Pilot::of(now, Some(&authority), Some(vehicle));
        assert_eq!(pilot(at(1500), &vehicle), Pilot::Suite("guide"));
        assert_eq!(pilot(at(3000), &vehicle), Pilot::Unknown("no word from the autopilot"));
        let later = (at(3000), flying.clone());
        assert_eq!(
            pilot(at(3000), &later),
            Pilot::Unknown("no word from the supervisor"),
            "its last word is old"
        );
        let landing =
            sw::VehicleStatus { mode: sw::VehicleStatus::MODE_LAND, failsafe: true, ..flying.clone() };
        assert_eq!(pilot(at(1500), &(at(1000), landing)), Pilot::Autopilot("land, failsafe".into()));
        let off = sw::VehicleStatus { armed: false, ..flying };
        assert_eq!(pilot(at(1500), &(at(1000), off)), Pilot::Nobody);
        assert!(!Pilot::Suite("guide").is_news_after(&Pilot::Suite("student")));
        assert!(Pilot::Nobody.is_news_after(&Pilot::Suite("student")));
    }
}
