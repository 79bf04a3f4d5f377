//! No update that was tampered with flies. A million of them: `examples/mutated_updates.rs`.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod mutation;

use mutation::{Tally, Victim};

#[test]
fn no_spoilt_update_is_accepted_and_the_genuine_one_is() {
    let run_dir = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(run_dir.path(), 1).unwrap();
    assert!(victim.accepts(victim.genuine()));
    let mut tally = Tally::default();
    for _ in 0..5_000 {
        victim.attack(&mut tally);
    }
    assert_eq!(tally.accepted, 0, "{tally:?}");
    assert!(tally.refused > 3_000 && tally.undecodable > 100, "{tally:?}");
}
