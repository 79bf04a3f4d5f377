//! Attacks the verification with signed updates that were spoilt: how many fly, and how much memory it takes.
//!
//!     cargo run --release -p spikewing-snn-policy --example mutated_updates -- [COUNT] [SEED]
//!
//! Exits with an error when one is accepted; a panic ends it, too.

#[path = "../tests/mutation/mod.rs"]
mod mutation;

use mutation::{Tally, Victim};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let count = numbers.next().transpose()?.unwrap_or(1_000_000);
    let seed = numbers.next().transpose()?.unwrap_or(1);
    let run_dir = tempfile::tempdir()?;
    let mut victim = Victim::new(run_dir.path(), seed)?;
    if !victim.accepts(victim.genuine()) {
        return Err("the update as the learner sent it is refused".into());
    }
    let mut tally = Tally::default();
    let (mut first_kib, mut most_kib) = (0, 0);
    for k in 0..count {
        victim.attack(&mut tally);
        if k % 10_000 == 9_999 {
            let now = resident_kib();
            first_kib = if first_kib == 0 { now } else { first_kib };
            most_kib = most_kib.max(now);
        }
    }
    println!("{count} spoilt updates, seed {seed}: {tally:?}");
    println!("resident memory after the first 10,000: {first_kib} KiB; at most {most_kib} KiB");
    match tally.accepted {
        0 => Ok(()),
        n => Err(format!("{n} were accepted").into()),
    }
}

/// Resident memory, KiB; 0 where the system does not say.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
