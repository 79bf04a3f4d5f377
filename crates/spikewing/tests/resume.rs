//! A training that is killed and resumed is the training that was never stopped.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A short run with four segments.
fn train() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spikewing"));
    command.arg("train").args(["--eval-episodes", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn begin(dir: &Path) -> Command {
    let mut command = train();
    command.arg("--out").arg(dir).args(["--seed", "3", "--updates", "70"]);
    for parameter in [
        "checkpoint_every_updates:=20",
        "publish_every_updates:=10",
        "evaluate_every_updates:=10",
        "evaluation_episodes:=1",
        "start_steps:=300",
        "batch:=8",
        "critic_warmup_updates:=5",
        "jump_start.episodes:=2",
    ] {
        command.args(["-p", &format!("online_learner.{parameter}")]);
    }
    command
}

fn resume(dir: &Path) -> Command {
    let mut command = train();
    command.arg("--resume").arg(dir);
    command
}

fn finish(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Starts, waits until a checkpoint is there and a little longer, and kills.
fn kill_after(mut command: Command, checkpoint: &Path, then: Duration) {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while !checkpoint.exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no {}", checkpoint.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(then);
    // SIGKILL; the run may have ended by itself on a fast machine, which is resumed all the same.
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_and_resumed_training_makes_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    finish(begin(&whole));
    let checkpoint = |updates: u64| spikewing_rl::checkpoint::path(&killed, updates);
    kill_after(begin(&killed), &checkpoint(20), Duration::from_millis(150));
    kill_after(resume(&killed), &checkpoint(40), Duration::from_millis(10));
    finish(resume(&killed));
    for name in ["checkpoint-000000070.bin", "latest.safetensors", "policy.safetensors", "metrics.csv"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(&whole) == read(&killed), "{name} differs");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_and_costs_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, hindered) = (dir.path().join("whole"), dir.path().join("hindered"));
    finish(begin(&whole));
    // A folder in the way of the second checkpoint, as a full disk would be.
    let obstacle = spikewing_rl::checkpoint::path(&hindered, 40).with_extension("json");
    std::fs::create_dir_all(obstacle.join("x")).unwrap();
    let output = begin(&hindered).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    for part in ["checkpoint-000000040", "checkpoint-000000020.bin", "stays"] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    std::fs::remove_dir_all(&obstacle).unwrap();
    finish(resume(&hindered));
    for name in ["checkpoint-000000070.bin", "latest.safetensors"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(&whole) == read(&hindered), "{name} differs");
    }
}

#[test]
fn a_folder_without_a_run_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let output = resume(dir.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("run.yaml"));
}
