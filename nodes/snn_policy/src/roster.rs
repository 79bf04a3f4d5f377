//! The policies that are there: the one that flies, the one that warms up, the one that is next, and the one to go back to.
//!
//! - The policy that warms up finishes and takes over, whatever arrives meanwhile: at any rate of updates somebody takes over.
//! - Of those that are verified meanwhile the newest is next; older ones are overtaken.
//! - A policy has *proved itself* when it has flown so many steps without losing authority. The last one that did is kept to go
//!   back to; until one has, the first is.
//! - What has lost authority too often is barred, by its content, and not tried again.
//!
//! Networks are laid out in storage that is used again and again: a take-over exchanges values, and nothing is freed.

use std::collections::VecDeque;

use spikewing_runtime::{Span, Time};
use spikewing_snn::{Flight, SnnError};

/// Storage that is kept for policies to come.
const SPARES: usize = 4;
/// Losses of authority that are remembered.
const LOSSES: usize = 256;
/// Policies that are remembered as barred, and as flown.
const REMEMBERED: usize = 64;

/// Digest of a policy's learned numbers.
pub(crate) type Content = [u8; 32];

/// A network with what is known of it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub flight: Flight,
    pub version: u64,
    /// Of the file; none: from no file.
    pub sha256: Option<[u8; 32]>,
    pub content: Content,
    /// When it was ready: verified and laid out for flight.
    pub ready: Time,
    /// Steps flown with authority since it last lost it.
    flown: u32,
    proven: bool,
}

impl Slot {
    pub fn new(
        flight: Flight,
        version: u64,
        sha256: Option<[u8; 32]>,
        content: Content,
        ready: Time,
    ) -> Self {
        Self { flight, version, sha256, content, ready, flown: 0, proven: false }
    }
}

/// A policy that runs along without flying.
#[derive(Debug)]
struct Warming {
    slot: Slot,
    steps_left: u32,
}

/// When a policy is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Steps that a new policy runs along before it takes over.
    pub warmup_steps: u32,
    /// Steps flown without loss of authority that prove a policy.
    pub prove_steps: u32,
    /// Losses within the window that bar one; 0: none is barred.
    pub bar_after: u32,
    pub window: Span,
}

/// A policy that is not tried again.
#[derive(Clone, Debug)]
pub(crate) struct Barred {
    pub content: Content,
    pub version: u64,
    pub losses: usize,
}

/// What a loss of authority led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// It is borne.
    Noted,
    /// The policy is barred, and this version comes back.
    RolledBack(u64),
    /// The policy is barred; another takes over already.
    Barred,
    /// It has proved itself, and nothing else is there: it stays.
    Stays,
    /// It never proved itself, and nothing else is there: it does not fly any more.
    Grounded,
}

/// All policies of the node.
#[derive(Debug)]
pub(crate) struct Roster {
    rules: Rules,
    active: Slot,
    warming: Option<Warming>,
    next: Option<Slot>,
    fallback: Option<Slot>,
    spares: Vec<Flight>,
    losses: VecDeque<(Time, Content)>,
    /// Version and content of what flew lately: whose loss it was may be told after the next one took over.
    flew: VecDeque<(u64, Content)>,
    barred: VecDeque<Barred>,
}

impl Roster {
    pub fn new(first: Slot, rules: Rules) -> Self {
        let mut flew = VecDeque::with_capacity(REMEMBERED);
        flew.push_back((first.version, first.content));
        Self {
            rules,
            active: first,
            warming: None,
            next: None,
            fallback: None,
            spares: Vec::with_capacity(SPARES + 1),
            losses: VecDeque::with_capacity(LOSSES),
            flew,
            barred: VecDeque::with_capacity(REMEMBERED),
        }
    }

    pub fn active(&self) -> &Slot {
        &self.active
    }

    /// Version in shadow, and the steps until it takes over.
    pub fn warming(&self) -> Option<(u64, u32)> {
        self.warming.as_ref().map(|w| (w.slot.version, w.steps_left))
    }

    /// Version that waits for the shadow's place.
    pub fn next(&self) -> Option<u64> {
        self.next.as_ref().map(|s| s.version)
    }

    /// Version to go back to.
    pub fn fallback(&self) -> Option<u64> {
        self.fallback.as_ref().map(|s| s.version)
    }

    pub fn barred(&self) -> impl Iterator<Item = &Barred> {
        self.barred.iter()
    }

    /// Every policy with its state in a word.
    pub fn all(&self) -> impl Iterator<Item = (&Slot, &'static str)> {
        let warming = self.warming.as_ref().map(|w| (&w.slot, "shadow"));
        let next = self.next.as_ref().map(|s| (s, "waiting"));
        let fallback = self.fallback.as_ref().map(|s| (s, "previous"));
        [Some((&self.active, "active")), warming, next, fallback].into_iter().flatten()
    }

    /// Whether the active policy lost authority too often and nothing could replace it.
    pub fn grounded(&self) -> bool {
        !self.active.proven && self.is_barred(&self.active.content)
    }

    fn is_barred(&self, content: &Content) -> bool {
        self.barred.iter().any(|b| b.content == *content)
    }

    // --- the control tick: no allocation, no lock, no waiting -------------------------------------------------------

    /// Between two ticks: who is warm takes over. Returns when it had been ready.
    pub fn take_over(&mut self) -> Option<Time> {
        if self.warming.as_ref()?.steps_left > 0 {
            return None;
        }
        let mut slot = self.warming.take()?.slot;
        slot.flight.clear_counters();
        std::mem::swap(&mut self.active, &mut slot);
        if self.flew.len() >= REMEMBERED {
            self.flew.pop_front();
        }
        self.flew.push_back((self.active.version, self.active.content));
        let known_bad = self.is_barred(&slot.content);
        if !known_bad && (slot.proven || self.fallback.is_none()) {
            let displaced = self.fallback.replace(slot);
            self.discard(displaced);
        } else {
            self.discard(Some(slot));
        }
        let next = self.next.take();
        self.warm(next);
        Some(self.active.ready)
    }

    /// One step of the active policy, and of the one that warms up.
    pub fn step(&mut self, observation: &[f32], action: &mut [f32]) -> Result<(), SnnError> {
        self.active.flight.step(observation, action)?;
        if let Some(warming) = &mut self.warming {
            let mut unused = [0.0; 4];
            // Of the same shape, so that it cannot refuse what the active network took.
            let _ = warming.slot.flight.step(observation, &mut unused);
            warming.steps_left = warming.steps_left.saturating_sub(1);
        }
        Ok(())
    }

    /// The active policy flew a step with authority.
    pub fn note_flown(&mut self) {
        self.active.flown = self.active.flown.saturating_add(1);
        self.active.proven |= self.active.flown >= self.rules.prove_steps;
    }

    /// A new episode: all membranes are cleared, so that a new policy is as warm as the old one and takes over at once.
    pub fn new_episode(&mut self) {
        self.active.flight.reset();
        if let Some(warming) = &mut self.warming {
            warming.slot.flight.reset();
            warming.steps_left = 0;
        }
    }

    // --- between ticks ----------------------------------------------------------------------------------------------

    /// Storage for a network to come.
    pub fn spare(&mut self) -> Option<Flight> {
        self.spares.pop()
    }

    /// Takes storage back.
    pub fn keep(&mut self, spare: Option<Flight>) {
        if let Some(flight) = spare
            && self.spares.len() < SPARES
        {
            self.spares.push(flight);
        }
    }

    fn discard(&mut self, slot: Option<Slot>) {
        self.keep(slot.map(|s| s.flight));
    }

    /// A verified policy: it warms up, or is the next to.
    ///
    /// # Errors
    /// Why it is not tried again.
    pub fn offer(&mut self, slot: Slot) -> Result<(), String> {
        if let Some(barred) = self.barred.iter().find(|b| b.content == slot.content) {
            let reason = format!(
                "version {} is, as version {} was, a policy that lost authority {} times: it is not tried again; restart the \
                 node to try it all the same",
                slot.version, barred.version, barred.losses
            );
            self.discard(Some(slot));
            return Err(reason);
        }
        if self.warming.is_none() {
            self.warm(Some(slot));
        } else {
            let overtaken = self.next.replace(slot);
            self.discard(overtaken);
        }
        Ok(())
    }

    fn warm(&mut self, slot: Option<Slot>) {
        self.warming = slot.map(|slot| Warming { slot, steps_left: self.rules.warmup_steps });
    }

    /// Back to the last policy that proved itself; it takes over as soon as it is warm.
    ///
    /// # Errors
    /// When there is none.
    pub fn roll_back(&mut self) -> Result<u64, &'static str> {
        let mut slot = self.fallback.take().ok_or("there is no previous policy that could take over")?;
        slot.flight.reset();
        let version = slot.version;
        // Who was warming up waits, if nobody newer does.
        let displaced = self.warming.take().map(|w| w.slot);
        match &self.next {
            None => self.next = displaced,
            Some(_) => self.discard(displaced),
        }
        self.warm(Some(slot));
        Ok(version)
    }

    /// The policy of this version lost authority.
    pub fn note_loss(&mut self, now: Time, version: u64) -> Consequence {
        let Some((_, content)) = self.flew.iter().rev().find(|(v, _)| *v == version).copied() else {
            // It flew before this process did, or so long ago that nobody remembers.
            return Consequence::Noted;
        };
        if content == self.active.content {
            self.active.flown = 0;
        }
        if self.losses.len() >= LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back((now, content));
        while self.losses.front().is_some_and(|(at, _)| now - *at > self.rules.window) {
            self.losses.pop_front();
        }
        let losses = self.losses.iter().filter(|(_, c)| *c == content).count();
        if self.rules.bar_after == 0 || losses < self.rules.bar_after as usize {
            return Consequence::Noted;
        }
        self.bar(content, version, losses)
    }

    fn bar(&mut self, content: Content, version: u64, losses: usize) -> Consequence {
        let active = content == self.active.content;
        let version = if active { self.active.version } else { version };
        let alone = self.warming.is_none() && self.fallback.as_ref().is_none_or(|f| f.content == content);
        if active && alone && self.active.proven {
            // Better a policy that has flown well than none; what happened may not have been its fault.
            self.losses.clear();
            return Consequence::Stays;
        }
        self.losses.retain(|(_, c)| *c != content);
        if !self.is_barred(&content) {
            if self.barred.len() >= REMEMBERED {
                self.barred.pop_front();
            }
            self.barred.push_back(Barred { content, version, losses });
        }
        for place in [&mut self.next, &mut self.fallback] {
            if place.as_ref().is_some_and(|s| s.content == content) {
                let slot = place.take();
                if let Some(slot) = slot
                    && self.spares.len() < SPARES
                {
                    self.spares.push(slot.flight);
                }
            }
        }
        if self.warming.as_ref().is_some_and(|w| w.slot.content == content) {
            let slot = self.warming.take().map(|w| w.slot);
            self.discard(slot);
            let next = self.next.take();
            self.warm(next);
        }
        if !active {
            return Consequence::Barred;
        }
        match self.roll_back() {
            Ok(version) => Consequence::RolledBack(version),
            Err(_) if self.warming.is_some() => Consequence::Barred,
            Err(_) => Consequence::Grounded,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use spikewing_snn::{Network, Shape};

    use super::*;

    const RULES: Rules =
        Rules { warmup_steps: 3, prove_steps: 10, bar_after: 2, window: Span::from_millis(60_000) };

    fn slot(version: u64) -> Slot {
        let shape = Shape { inputs: 18, hidden: vec![3, 2], outputs: 4 };
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(version);
        let network = Network::random(&shape, &mut rng).unwrap();
        let mut content = [0; 32];
        content[..8].copy_from_slice(&version.to_le_bytes());
        Slot::new(Flight::new(&network), version, None, content, Time::ZERO)
    }

    fn roster() -> Roster {
        Roster::new(slot(1), RULES)
    }

    fn tick(roster: &mut Roster, steps: u32) {
        for _ in 0..steps {
            roster.take_over();
            roster.step(&[0.1; 18], &mut [0.0; 4]).unwrap();
        }
    }

    fn fly(roster: &mut Roster, steps: u32) {
        for _ in 0..steps {
            tick(roster, 1);
            roster.note_flown();
        }
    }

    #[test]
    fn a_flood_of_updates_does_not_starve_the_swap() {
        let mut r = roster();
        let mut took = Vec::new();
        for version in 2..200 {
            r.offer(slot(version)).unwrap();
            tick(&mut r, 1);
            if took.last() != Some(&r.active().version) {
                took.push(r.active().version);
            }
        }
        // Every three steps the newest that was ready then.
        assert!(took.len() > 60, "{took:?}");
        assert!(took.windows(2).all(|w| w[0] < w[1]), "{took:?}");
        assert!(r.active().version > 190);
    }

    #[test]
    fn two_bad_swaps_do_not_lose_the_good_one() {
        let mut r = roster();
        fly(&mut r, 10);
        for version in [2, 3] {
            r.offer(slot(version)).unwrap();
            tick(&mut r, 4);
            assert_eq!((r.active().version, r.fallback()), (version, Some(1)));
        }
        assert_eq!(r.note_loss(Time::ZERO, 3), Consequence::Noted);
        assert_eq!(r.note_loss(Time::ZERO, 3), Consequence::RolledBack(1));
        tick(&mut r, 4);
        assert_eq!(r.active().version, 1);
    }

    #[test]
    fn what_lost_authority_too_often_is_not_tried_again() {
        let mut r = roster();
        r.offer(slot(2)).unwrap();
        tick(&mut r, 4);
        r.note_loss(Time::ZERO, 2);
        r.note_loss(Time::ZERO, 2);
        tick(&mut r, 4);
        let mut same = slot(2);
        same.version = 9;
        let reason = r.offer(same).unwrap_err();
        assert!(reason.contains("version 2") && reason.contains("2 times"), "{reason}");
        assert_eq!(r.warming(), None);
        r.offer(slot(3)).unwrap();
    }

    #[test]
    fn losses_long_ago_are_forgotten() {
        let mut r = roster();
        r.offer(slot(2)).unwrap();
        tick(&mut r, 4);
        assert_eq!(r.note_loss(Time::ZERO, 2), Consequence::Noted);
        assert_eq!(r.note_loss(Time::ZERO + Span::from_millis(60_001), 2), Consequence::Noted);
    }

    #[test]
    fn a_loss_told_late_is_blamed_on_who_flew() {
        let mut r = roster();
        for version in [2, 3] {
            r.offer(slot(version)).unwrap();
            tick(&mut r, 4);
        }
        r.note_loss(Time::ZERO, 2);
        assert_eq!(r.note_loss(Time::ZERO, 2), Consequence::Barred);
        assert_eq!(r.active().version, 3);
        assert_eq!(r.barred().map(|b| b.version).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn alone_a_proven_policy_stays_and_another_is_grounded() {
        let mut bad = roster();
        bad.note_loss(Time::ZERO, 1);
        assert_eq!(bad.note_loss(Time::ZERO, 1), Consequence::Grounded);
        assert!(bad.grounded());
        bad.offer(slot(2)).unwrap();
        tick(&mut bad, 4);
        assert!(!bad.grounded());
        let mut good = roster();
        fly(&mut good, 10);
        good.note_loss(Time::ZERO, 1);
        assert_eq!(good.note_loss(Time::ZERO, 1), Consequence::Stays);
        assert!(!good.grounded());
    }

    #[test]
    fn storage_is_used_again() {
        let mut r = roster();
        for version in 2..50 {
            r.offer(slot(version)).unwrap();
            tick(&mut r, 4);
        }
        assert_eq!(r.spares.len(), SPARES);
        assert!(r.spares.capacity() > SPARES);
    }

    proptest! {
        /// Whatever happens: nobody who is barred warms up, waits or is gone back to; who warms up takes over in time.
        #[test]
        fn the_barred_never_come_back(events in prop::collection::vec((0u8..4, 1u64..6), 1..200)) {
            let mut r = roster();
            let mut now = Time::ZERO;
            for (event, which) in events {
                now = now + Span::from_millis(100);
                match event {
                    0 => drop(r.offer(slot(which))),
                    1 => tick(&mut r, which as u32),
                    2 => fly(&mut r, which as u32 * 3),
                    _ => drop(r.note_loss(now, which)),
                }
                let barred: Vec<Content> = r.barred().map(|b| b.content).collect();
                for (slot, state) in r.all().filter(|(_, state)| *state != "active") {
                    prop_assert!(!barred.contains(&slot.content), "{state} {}", slot.version);
                }
                prop_assert!(r.spares.len() <= SPARES);
            }
            if let Some((version, steps_left)) = r.warming() {
                tick(&mut r, steps_left + 1);
                prop_assert_eq!(r.active().version, version);
            }
        }
    }
}
