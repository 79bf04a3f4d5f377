//! Proposals on their way to verification, and which versions count.
//!
//! A version counts once a policy that somebody trusted announced under it is verified, and not before: a stranger's number,
//! however large, changes nothing, nor does the learner's own number around bytes that are not the learner's. All that wait are verified in one go, the newest first, so that a flood of strangers' updates does not push the
//! learner's out.

use std::collections::VecDeque;

use spikewing_msgs::spikewing_msgs::PolicyUpdate;
use spikewing_runtime::Time;
use spikewing_snn::policy::LAST_VERSION;

use crate::verify::{Origin, Proposal, Updates};

/// Proposals that wait; a newer one pushes the oldest out.
const LONGEST: usize = 8;
/// Without signatures a version may be so far above the newest: whoever counts further would lock all others out.
const LARGEST_JUMP: u64 = 1_000_000;

/// What is to be done with an update that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It waits for verification.
    Waits,
    /// It was seen before: a latched topic may deliver twice.
    Known,
    /// It is refused at once, for this reason.
    Refused(String),
}

/// Proposals that wait, and the newest version that counts.
#[derive(Debug)]
pub(crate) struct Intake {
    waiting: VecDeque<Proposal>,
    busy: bool,
    newest: u64,
    largest_bytes: usize,
}

impl Intake {
    /// Nothing waits; versions up to `newest` are taken. Updates with more than `largest_bytes` cannot be of a shape that
    /// flies here.
    pub fn new(newest: u64, largest_bytes: usize) -> Self {
        Self { waiting: VecDeque::with_capacity(LONGEST), busy: false, newest, largest_bytes }
    }

    /// A person's swap gets the next version.
    pub fn by_hand(&mut self, now: Time, origin: Origin) -> u64 {
        self.newest += 1;
        self.push(Proposal { origin, version: self.newest, arrived: now });
        self.newest
    }

    /// An update arrived; who sent it is not known yet.
    pub fn update(&mut self, now: Time, m: &PolicyUpdate, updates: Updates) -> Arrival {
        let (version, newest) = (m.version, self.newest);
        let refused = |reason: String| Arrival::Refused(format!("policy/update version {version}: {reason}"));
        match updates {
            Updates::None => return refused("`updates: none`: no update is taken".to_owned()),
            _ if version == newest => return Arrival::Known,
            _ if version < newest => return refused(format!("it is not above {newest}")),
            _ if version > LAST_VERSION => {
                return refused(format!("no learner counts beyond {LAST_VERSION}"));
            }
            Updates::Any if version - newest > LARGEST_JUMP => {
                return refused(format!(
                    "without signatures it may not be more than {LARGEST_JUMP} above {newest}"
                ));
            }
            _ => {}
        }
        if m.data.len() > self.largest_bytes {
            let (bytes, limit) = (m.data.len(), self.largest_bytes);
            return refused(format!("{bytes} bytes are more than a policy of this shape has ({limit})"));
        }
        self.push(Proposal { origin: Origin::Update(Box::new(m.clone())), version, arrived: now });
        Arrival::Waits
    }

    fn push(&mut self, proposal: Proposal) {
        if self.waiting.len() >= LONGEST {
            // What a person asked for stays before what anybody may have sent.
            let is_update = |p: &Proposal| matches!(p.origin, Origin::Update(_));
            let oldest = self.waiting.iter().position(is_update).unwrap_or(0);
            self.waiting.remove(oldest);
        }
        self.waiting.push_back(proposal);
    }

    /// All that wait, for verification, unless one is going on.
    pub fn next_batch(&mut self) -> Option<Vec<Proposal>> {
        if self.busy || self.waiting.is_empty() {
            return None;
        }
        self.busy = true;
        Some(self.waiting.drain(..).collect())
    }

    /// A verification ended, with a policy of this version that may fly, or none.
    pub fn verified(&mut self, version: Option<u64>) {
        self.busy = false;
        self.newest = self.newest.max(version.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(version: u64) -> PolicyUpdate {
        PolicyUpdate { version, ..PolicyUpdate::default() }
    }

    #[test]
    fn what_is_not_trusted_yet_raises_nothing() {
        let mut intake = Intake::new(1, 100);
        for version in [5, LAST_VERSION, 3] {
            assert_eq!(intake.update(Time::ZERO, &update(version), Updates::Signed), Arrival::Waits);
        }
        let batch = intake.next_batch().unwrap();
        assert_eq!(batch.iter().map(|p| p.version).collect::<Vec<_>>(), [5, LAST_VERSION, 3]);
        assert!(intake.next_batch().is_none(), "one verification at a time");
        intake.verified(Some(5));
        assert!(matches!(intake.update(Time::ZERO, &update(4), Updates::Signed), Arrival::Refused(_)));
        assert_eq!(intake.update(Time::ZERO, &update(5), Updates::Signed), Arrival::Known);
        assert_eq!(intake.by_hand(Time::ZERO, Origin::Bytes(Vec::new())), 6);
    }

    #[test]
    fn no_number_locks_others_out() {
        let mut intake = Intake::new(1, 100);
        for (version, updates) in [(u64::MAX, Updates::Signed), (2_000_000, Updates::Any), (2, Updates::None)]
        {
            let arrival = intake.update(Time::ZERO, &update(version), updates);
            assert!(matches!(arrival, Arrival::Refused(_)), "{version} {updates:?}: {arrival:?}");
        }
        assert_eq!(intake.update(Time::ZERO, &update(2), Updates::Any), Arrival::Waits);
    }

    #[test]
    fn a_flood_of_updates_does_not_push_a_persons_swap_out() {
        let mut intake = Intake::new(1, 100);
        let version = intake.by_hand(Time::ZERO, Origin::Bytes(vec![1]));
        for version in 3..1000 {
            intake.update(Time::ZERO, &update(version), Updates::Signed);
        }
        let batch = intake.next_batch().unwrap();
        assert_eq!((batch.len(), batch[0].version), (LONGEST, version));
        let big = PolicyUpdate { data: vec![0; 101], ..update(2000) };
        assert!(matches!(intake.update(Time::ZERO, &big, Updates::Signed), Arrival::Refused(_)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut intake = Intake::new(1, 100);
        for version in 2..1000 {
            intake.update(Time::ZERO, &update(version), Updates::Signed);
        }
        let batch = intake.next_batch().unwrap();
        assert_eq!((batch.len(), batch.last().unwrap().version), (LONGEST, 999));
    }
}
