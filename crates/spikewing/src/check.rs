//! `spikewing check px4`: whether a PX4 that is reachable is set up right. It arms nothing, and moves nothing.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use clap::{Args, Subcommand};
use spikewing_msgs::px4_msgs;
use spikewing_px4_bridge::px4;
use spikewing_runtime::{
    Node, NodeOptions, Outbox, Received, Span, Time,
    dds::{self, DdsConfig},
    local::chain,
    node::Finish,
    port::{Input, Interface, Output, Qos},
};

const ODOMETRY: Input<px4_msgs::VehicleOdometry> = Input::new(px4::VEHICLE_ODOMETRY, Qos::sensor(5));
const SENSORS: Input<px4_msgs::SensorCombined> = Input::new(px4::SENSOR_COMBINED, Qos::sensor(5));
const LANDED: Input<px4_msgs::VehicleLandDetected> = Input::new(px4::VEHICLE_LAND_DETECTED, Qos::sensor(5));
const REQUEST: Output<px4_msgs::VehicleCommand> = Output::new(px4::VEHICLE_COMMAND, Qos::sensor(5));

const TICK: &str = "ask";
const TICK_PERIOD: Span = Span::from_millis(500);
/// MAV_CMD_USER_1: no vehicle does anything for it, and PX4 answers that it does not.
const HARMLESS: u32 = 31010;
/// Component id of this program, so that its answers are told from others'.
const COMPONENT: u16 = 192;

/// Check what the suite will meet
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Listen to a PX4 (simulated, or a drone on a stand) and say what is set up right and what is not. Arms nothing.
    ///
    /// Exit status: 0 all passed or skipped, 1 something failed, 3 DDS does not start.
    Px4(Px4Args),
}

#[derive(Debug, Args)]
struct Px4Args {
    /// How long to listen, s
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Namespace of PX4's topics, e.g. px4_1 for a second simulated one
    #[arg(long, default_value = "")]
    namespace: String,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// What came of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

#[derive(Clone, Debug, serde::Serialize)]
struct Row {
    check: &'static str,
    verdict: Verdict,
    said: String,
}

/// Everything that was heard.
#[derive(Clone, Debug, Default)]
struct Heard {
    release: Option<&'static str>,
    status: u32,
    armed: bool,
    system: u8,
    preflight_ok: bool,
    odometry: Vec<Time>,
    unusable: Option<String>,
    sensors: u32,
    landed: Option<bool>,
    acknowledged: bool,
    asked: u32,
    unreadable: Option<String>,
    /// Arrival and PX4's stamp (µs) of the first and the last odometry.
    clock: Option<((Time, u64), (Time, u64))>,
}

struct Listener {
    namespace: String,
    end: Option<Time>,
    listens: Span,
    heard: Heard,
    result: Arc<Mutex<Heard>>,
}

macro_rules! status {
    ($heard:expr, $m:expr, $release:literal) => {{
        $heard.release = Some($release);
        $heard.status += 1;
        $heard.armed = $m.arming_state == px4_msgs::VehicleStatus::ARMING_STATE_ARMED;
        $heard.system = $m.system_id;
        $heard.preflight_ok = $m.pre_flight_checks_pass;
    }};
}

impl Node for Listener {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&ODOMETRY)
            .input(&SENSORS)
            .input(&LANDED)
            .input(&px4::STATUS_V1)
            .input(&px4::STATUS_V2)
            .input(&px4::STATUS_V4)
            .input(&px4::ACK)
            .input(&px4::ACK_V1)
            .output(&REQUEST)
            .timer(TICK, TICK_PERIOD)
            .within("fmu/", &self.namespace)
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, _out: &mut Outbox) {
        let heard = &mut self.heard;
        if let Some(m) = message.on(&px4::STATUS_V1) {
            status!(heard, m, "1.16 or 1.17");
        } else if let Some(m) = message.on(&px4::STATUS_V2) {
            status!(heard, m, "1.17+ (development tree of March 2026)");
        } else if let Some(m) = message.on(&px4::STATUS_V4) {
            status!(heard, m, "1.18");
        } else if let Some(m) = message.on(&ODOMETRY) {
            heard.odometry.push(now);
            let at = (now, m.timestamp);
            heard.clock = Some((heard.clock.map_or(at, |(first, _)| first), at));
            if m.pose_frame != px4_msgs::VehicleOdometry::POSE_FRAME_NED {
                heard.unusable = Some(format!("its pose_frame is {}, not NED (1)", m.pose_frame));
            } else if m.position.iter().chain(&m.velocity).chain(&m.q).any(|v| !v.is_finite()) {
                heard.unusable =
                    Some("it has no position, velocity or attitude yet: EKF2 has not converged".into());
            } else {
                heard.unusable = None;
            }
        } else if message.on(&SENSORS).is_some() {
            heard.sensors += 1;
        } else if let Some(m) = message.on(&LANDED) {
            heard.landed = Some(m.landed);
        } else if let Some(m) = message.on(&px4::ACK).or_else(|| message.on(&px4::ACK_V1)) {
            heard.acknowledged |= m.command == HARMLESS && m.target_component == COMPONENT;
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        let end = *self.end.get_or_insert(now + self.listens);
        if now >= end {
            *self.result.lock().unwrap_or_else(PoisonError::into_inner) = self.heard.clone();
            out.finish(Finish::Success);
        } else if self.heard.status > 0 && !self.heard.acknowledged {
            self.heard.asked += 1;
            out.publish(
                &REQUEST,
                px4_msgs::VehicleCommand {
                    command: HARMLESS,
                    target_system: self.heard.system,
                    target_component: 1,
                    source_system: self.heard.system,
                    source_component: COMPONENT,
                    from_external: true,
                    ..Default::default()
                },
            );
        }
    }

    fn on_malformed(&mut self, _now: Time, topic: &str, _reason: &str, _out: &mut Outbox) {
        self.heard.unreadable = Some(topic.to_owned());
    }
}

/// The table, from what was heard in so many seconds.
fn judge(heard: &Heard, seconds: f64) -> Vec<Row> {
    use Verdict::{Failed, Passed, Skipped};
    let mut rows = Vec::new();
    let mut row = |check, verdict, said: String| rows.push(Row { check, verdict, said });
    let anything = heard.status > 0 || !heard.odometry.is_empty() || heard.sensors > 0;
    if !anything {
        row(
            "link",
            Failed,
            "nothing is heard from PX4: is the Micro XRCE-DDS agent running (MicroXRCEAgent udp4 -p 8888), the client in \
             PX4 (uxrce_dds_client status), both in this ROS_DOMAIN_ID, and --namespace right?"
                .into(),
        );
        for check in
            ["release", "status", "odometry", "imu", "land detector", "clock", "commands", "arming checks"]
        {
            row(check, Skipped, "there is no link".into());
        }
        return rows;
    }
    row("link", Passed, "PX4 is heard".into());
    match (heard.release, &heard.unreadable) {
        (Some(release), _) => row("release", Passed, format!("speaks as {release}")),
        (None, Some(topic)) => {
            row("release", Failed, format!("{topic} cannot be read: are px4_msgs and PX4 of one release?"))
        }
        (None, None) => {
            row("release", Failed, "no vehicle_status of a release that is known (v1, v2, v4)".into())
        }
    }
    let rate = f64::from(heard.status) / seconds;
    let verdict = if rate >= 1.0 { Passed } else { Failed };
    row("status", verdict, format!("{rate:.1} a second (PX4 sends two or more), system id {}", heard.system));
    let rate = heard.odometry.len() as f64 / seconds;
    let gaps = heard.odometry.windows(2).map(|w| (w[1] - w[0]).seconds() * 1000.0);
    let longest = gaps.fold(0.0, f64::max);
    let said = format!("{rate:.0} a second, longest gap {longest:.0} ms");
    match &heard.unusable {
        Some(why) => row("odometry", Failed, format!("{said}; {why}")),
        None if rate < 50.0 => {
            row("odometry", Failed, format!("{said}; control wants 100 (dds_topics.yaml: vehicle_odometry)"))
        }
        None => row("odometry", Passed, said),
    }
    let rate = f64::from(heard.sensors) / seconds;
    // A hundred less what a busy machine loses: PX4's own simulation sends 98 there.
    let verdict = if rate >= 90.0 { Passed } else { Failed };
    row(
        "imu",
        verdict,
        format!("{rate:.0} a second on sensor_combined; the estimator wants about 100 or more"),
    );
    match heard.landed {
        Some(landed) => {
            row("land detector", Passed, if landed { "on the ground".into() } else { "in the air".into() })
        }
        None => row("land detector", Failed, "vehicle_land_detected is not heard".into()),
    }
    match heard.clock {
        Some(((t0, s0), (t1, s1))) if (t1 - t0).seconds() > 2.0 => {
            let drift = (s1 as f64 - s0 as f64) / 1e6 / (t1 - t0).seconds() - 1.0;
            let apart = (t1.nanoseconds() as f64 / 1e9 - s1 as f64 / 1e6).abs();
            let how = if apart < 0.5 { "synchronised" } else { "its own, followed by the bridge" };
            let verdict = if drift.abs() < 0.05 { Passed } else { Failed };
            row("clock", verdict, format!("{how}; runs {:+.2} % against this machine's", drift * 100.0));
        }
        _ => row("clock", Skipped, "too little odometry".into()),
    }
    match (heard.acknowledged, heard.asked) {
        (true, _) => row("commands", Passed, "PX4 answers what it is asked".into()),
        (false, 0) => row("commands", Skipped, "without a status nobody is asked".into()),
        (false, asked) => row(
            "commands",
            Failed,
            format!(
                "no answer to {asked} requests: does another system id or a lossy link eat what is sent on fmu/in?"
            ),
        ),
    }
    match (heard.release, heard.armed, heard.preflight_ok) {
        (None, _, _) => row("arming checks", Skipped, "without a status".into()),
        (_, true, _) => row("arming checks", Skipped, "it is armed".into()),
        (_, _, true) => row("arming checks", Passed, "PX4's preflight checks pass".into()),
        (_, _, false) => {
            row(
                "arming checks",
                Failed,
                "PX4's preflight checks fail: `commander check` in its console names them".into(),
            );
        }
    }
    rows
}

impl CheckArgs {
    /// Runs the command.
    pub fn run(&self) -> ExitCode {
        let What::Px4(args) = &self.what;
        match args.rows() {
            Ok(rows) => {
                args.print(&rows);
                let failed = rows.iter().any(|r| r.verdict == Verdict::Failed);
                ExitCode::from(u8::from(failed))
            }
            Err(error) => {
                eprintln!("spikewing: {}", chain(&error));
                ExitCode::from(3)
            }
        }
    }
}

impl Px4Args {
    fn rows(&self) -> Result<Vec<Row>, dds::DdsError> {
        let config = DdsConfig::from_env()?;
        let seconds = self.seconds.clamp(3.0, 600.0);
        let result: Arc<Mutex<Heard>> = Arc::default();
        let listener = Listener {
            namespace: self.namespace.clone(),
            end: None,
            listens: Span::from_seconds(seconds),
            heard: Heard::default(),
            result: Arc::clone(&result),
        };
        let name = format!("check_{}", std::process::id());
        let options = NodeOptions { name, namespace: "/".to_owned(), ..NodeOptions::default() };
        dds::run_node(Box::new(listener), &options, &config, &AtomicBool::new(false))?;
        let heard = result.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(judge(&heard, seconds))
    }

    fn print(&self, rows: &[Row]) {
        if self.json {
            println!("{}", serde_json::json!(rows));
            return;
        }
        for row in rows {
            let verdict = match row.verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "FAILED",
                Verdict::Skipped => "skipped",
            };
            println!("{:14} {verdict:8} {}", row.check, row.said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(rows: &[Row], check: &str) -> Verdict {
        rows.iter().find(|r| r.check == check).unwrap().verdict
    }

    #[test]
    fn silence_fails_once_and_says_the_mend() {
        let rows = judge(&Heard::default(), 8.0);
        assert_eq!(rows.iter().filter(|r| r.verdict == Verdict::Failed).count(), 1);
        assert!(rows[0].said.contains("MicroXRCEAgent"));
        assert_eq!(rows.len(), 9);
    }

    #[test]
    fn a_sound_px4_passes_and_each_fault_is_its_own() {
        let at = |ms: i64| Time::ZERO + Span::from_millis(ms);
        let sound = Heard {
            release: Some("1.18"),
            status: 16,
            system: 1,
            preflight_ok: true,
            odometry: (0..800).map(|i| at(10 * i)).collect(),
            sensors: 2000,
            landed: Some(true),
            acknowledged: true,
            asked: 1,
            clock: Some(((at(0), 1_000_000), (at(7990), 8_918_000))),
            ..Heard::default()
        };
        let rows = judge(&sound, 8.0);
        assert!(rows.iter().all(|r| r.verdict == Verdict::Passed), "{rows:?}");
        for (check, broken) in [
            ("release", Heard { release: None, ..sound.clone() }),
            ("status", Heard { status: 3, ..sound.clone() }),
            ("odometry", Heard { odometry: sound.odometry[..200].to_vec(), ..sound.clone() }),
            ("odometry", Heard { unusable: Some("no position".into()), ..sound.clone() }),
            ("imu", Heard { sensors: 80, ..sound.clone() }),
            ("land detector", Heard { landed: None, ..sound.clone() }),
            ("clock", Heard { clock: Some(((at(0), 0), (at(8000), 1_000_000))), ..sound.clone() }),
            ("commands", Heard { acknowledged: false, ..sound.clone() }),
            ("arming checks", Heard { preflight_ok: false, ..sound.clone() }),
        ] {
            assert_eq!(verdict(&judge(&broken, 8.0), check), Verdict::Failed, "{check}");
        }
    }
}
