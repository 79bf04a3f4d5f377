//! What swaps cost control: ticks of the student's node at a fixed rate while updates arrive, beside the same without updates.
//!
//!     cargo run --release -p spikewing-snn-policy --example swap_time -- [SWAPS] [RATE_HZ] [BUSY_THREADS] [idle]
//!
//! `idle` verifies in an idle thread of the control process, as was done once: what that costs shows beside busy threads.
//!
//! The loop is the host's: wait, decode, node, jobs; updates are signed, 160 kB each, and made by another thread, as a learner's are.
//! A tick is missed when its command is there later than the next tick is due. Prints the ticks missed with and without updates,
//! the time a tick takes, and the times from arrival to readiness and from there to take-over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_msgs::{Message, nav_msgs::Odometry, spikewing_msgs as sw};
use spikewing_runtime::{
    Doorbell, Jobs, NodeOptions, Outbox, Received, Time,
    codec::codec_named,
    node::{Effect, Urgency},
    parameter::Value,
    priority,
};
use spikewing_snn::{
    Network, Shape,
    policy::{Announcement, Metadata, Policy, SecretKey, sha256, sha256_of_hex},
};
use spikewing_snn_policy::NODE;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Steps that a policy runs in shadow here: the shorter, the more swaps a second.
const WARMUP_STEPS: i64 = 5;

fn main() -> Result<(), Failure> {
    let idle = std::env::args().any(|a| a == "idle");
    let mut numbers = std::env::args().skip(1).filter(|a| a != "idle").map(|a| a.parse::<u64>());
    let swaps = numbers.next().transpose()?.unwrap_or(10_000);
    let rate_hz = numbers.next().transpose()?.unwrap_or(500);
    let busy = numbers.next().transpose()?.unwrap_or(0);
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..busy {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    let run_dir = tempfile::tempdir()?;
    let key = SecretKey::load_or_create(&run_dir.path().join("learner.key"))?;
    let jobs = if idle { Urgency::Background } else { Urgency::Control };
    let control = |until: Until| -> Result<Seen, Failure> {
        let (key, dir) = (key.clone(), run_dir.path().to_owned());
        let thread = std::thread::spawn(move || fly(until, jobs, rate_hz, &key, &dir));
        thread.join().map_err(|_| "the control thread failed")?
    };
    let with = control(Until::Swaps(swaps))?;
    let without = control(Until::Ticks(with.ticks))?;
    stop.store(true, Ordering::Relaxed);
    println!("{rate_hz} Hz, {busy} busy threads beside it; control {}", with.scheduling);
    for (name, seen) in [("with updates", &with), ("without", &without)] {
        println!(
            "{name:13} {:>7} ticks, {:>3} missed; {:>6} swaps; a tick takes p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs; woken late by up to {:.0} µs",
            seen.ticks,
            seen.missed,
            seen.status.swaps,
            seen.tick_us[0],
            seen.tick_us[1],
            seen.tick_us[2],
            seen.late_us
        );
    }
    let s = &with.status;
    let ms = |seconds: f32| f64::from(seconds) * 1e3;
    println!(
        "arrival to readiness:   p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        ms(s.ready_p50),
        ms(s.ready_p99),
        ms(s.ready_max)
    );
    println!(
        "readiness to take-over: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms ({WARMUP_STEPS} steps of warm-up)",
        ms(s.takeover_p50),
        ms(s.takeover_p99),
        ms(s.takeover_max)
    );
    Ok(())
}

/// How long a flight lasts: until so many swaps, or, without updates, so many ticks.
#[derive(Clone, Copy)]
enum Until {
    Swaps(u64),
    Ticks(u64),
}

/// What a flight showed.
struct Seen {
    scheduling: &'static str,
    ticks: u64,
    missed: u64,
    tick_us: [f64; 3],
    late_us: f64,
    status: sw::PolicyStatus,
}

/// The control loop.
fn fly(
    until: Until,
    jobs: Urgency,
    rate_hz: u64,
    key: &SecretKey,
    dir: &std::path::Path,
) -> Result<Seen, Failure> {
    let scheduling = match priority::take(Urgency::Control)? {
        priority::Granted::RealTime => "in real time",
        priority::Granted::Ordinary(_) => "as an ordinary thread",
    };
    let mut options = NodeOptions::of(&NODE);
    for (name, value) in [
        ("control_rate_hz", Value::Float(rate_hz as f64)),
        ("warmup_steps", Value::Integer(WARMUP_STEPS)),
        ("learner_key_file", Value::Text(dir.join("learner.pub").display().to_string())),
    ] {
        options.parameters.set(name, value)?;
    }
    let mut node = (NODE.build)(&options.context())?;
    let (bell, mut out) = (Doorbell::new(), Outbox::new());
    if jobs == Urgency::Background {
        // The thread stays what it is; only its jobs are told that nothing is urgent.
        priority::take(jobs)?;
    }
    let mut jobs = Jobs::new(&bell);
    let decode = codec_named("spikewing_msgs/msg/PolicyUpdate").ok_or("no decoder")?.decode;
    let updates = match until {
        Until::Swaps(_) => Some(updates(rate_hz as f64, key.clone())),
        Until::Ticks(_) => None,
    };
    let over = |swaps: u64, ticks: u64| match until {
        Until::Swaps(n) => swaps >= n,
        Until::Ticks(n) => ticks >= n,
    };

    let period = Duration::from_secs_f64(1.0 / rate_hz as f64);
    let (mut ticks, mut missed, mut late_us) = (0, 0, 0.0_f64);
    let mut took = Vec::with_capacity(1 << 20);
    let mut status = sw::PolicyStatus::default();
    node.on_start(Time::wall(), &mut out);
    let mut due = Instant::now() + period;
    while !over(status.swaps, ticks) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let woken = Instant::now();
        late_us = late_us.max((woken - due).as_secs_f64() * 1e6);
        let now = Time::wall();
        let mut odometry = Odometry::default();
        odometry.header.stamp = now.to_msg();
        odometry.pose.pose.position.x = 0.1 * (ticks as f64 * 0.01).sin();
        odometry.pose.pose.position.z = 1.0;
        let message = odometry.wrap();
        node.on_message(now, &Received { port: "odometry", message: &message }, &mut out);
        if woken.elapsed() + (woken - due) > period {
            missed += 1;
        }
        // Behind the tick, as the host does: what else arrived.
        if let Some(bytes) = updates.as_ref().and_then(|u| u.try_recv().ok()) {
            let message = decode(&bytes)?;
            node.on_message(Time::wall(), &Received { port: "policy/update", message: &message }, &mut out);
        }
        while let Some(result) = jobs.finished() {
            node.on_job(Time::wall(), result, &mut out);
        }
        if ticks % 50 == 0 {
            node.on_timer(Time::wall(), "status", &mut out);
        }
        for effect in out.drain() {
            match effect {
                Effect::Spawn(job) => jobs.start(job),
                Effect::Publish { message, .. } => {
                    if let Some(s) = sw::PolicyStatus::peel(&message) {
                        status = s.clone();
                    }
                }
                _ => {}
            }
        }
        took.push(woken.elapsed().as_secs_f64() * 1e6);
        ticks += 1;
        due += period;
        if due < Instant::now() {
            // A turn that overran its period costs the ticks that were due meanwhile.
            let lost = ((Instant::now() - due).as_secs_f64() / period.as_secs_f64()) as u32 + 1;
            missed += u64::from(lost);
            due += period * lost;
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize];
    Ok(Seen { scheduling, ticks, missed, tick_us: [at(0.5), at(0.99), at(1.0)], late_us, status })
}

/// Signed updates as they come from the wire, from an ordinary thread: as many as are taken.
fn updates(rate_hz: f64, key: SecretKey) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let policies: Vec<Vec<u8>> = (0..16)
            .filter_map(|_| {
                let mut metadata = Metadata::student("crazyflie");
                metadata.control_rate_hz = rate_hz;
                let network = Network::random(&Shape::paper(), &mut rng).ok()?;
                Some(Policy::spiking(network, metadata).ok()?.to_bytes())
            })
            .collect();
        for (version, data) in (2..).zip(policies.iter().cycle()) {
            let sha256 = sha256(data);
            let announced = sha256_of_hex(&sha256).unwrap_or_default();
            let announcement = Announcement { version, parent_version: version - 1, sha256: announced };
            let update = sw::PolicyUpdate {
                version,
                parent_version: version - 1,
                format: "safetensors".into(),
                sha256,
                data: data.clone(),
                signature: announcement.sign(&key).to_vec(),
                ..Default::default()
            };
            let Ok(bytes) = update.wrap().encode() else { return };
            if sender.send(bytes).is_err() {
                return;
            }
        }
    });
    receiver
}
