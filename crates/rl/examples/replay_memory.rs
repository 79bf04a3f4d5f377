//! Fills a replay buffer and says what it takes: `replay_memory [STEPS] [STEPS OF AN EPISODE]`, one JSON line with the bytes
//! per step by its own count and by what the process grew.

use spikewing_quad::OBSERVATION;
use spikewing_rl::replay::{ACTION, Cut, End, Replay, Source, Step};

type Failure = Box<dyn std::error::Error>;

/// Resident memory of this process, bytes.
fn resident() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).ok_or("/proc/self/status has no VmRSS")?;
    let kib: usize = line.split_whitespace().nth(1).ok_or("VmRSS has no number")?.parse()?;
    Ok(1024 * kib)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |or: usize| arguments.next().map_or(Ok(or), |s| s.parse());
    let (steps, length) = (number(2_000_000)?, number(500)?.max(1));
    let mut replay = Replay::new(steps, Cut { length: 100, stride: 50, shortest: 60 });
    let before = resident()?;
    let mut episode = 0;
    while replay.steps() + length <= steps {
        for k in 0..=length {
            let end = (k == length).then_some(End::Truncated);
            let record = Step {
                observation: [k as f32; OBSERVATION],
                action: [0.5; ACTION],
                source: Source::Student,
                advice: Some([0.5; ACTION]),
                end,
            };
            replay.push("a", episode, u32::try_from(k)?, &record)?;
        }
        episode += 1;
    }
    let line = serde_json::json!({
        "steps": replay.steps(), "episode_steps": length,
        "bytes": replay.bytes(), "bytes_per_step": replay.bytes() as f64 / replay.steps() as f64,
        "resident_bytes": resident()? - before, "gib_of_2e6_steps":
            2e6 * (resident()? - before) as f64 / replay.steps() as f64 / 1024_f64.powi(3),
    });
    println!("{line}");
    Ok(())
}
