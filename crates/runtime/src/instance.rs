//! One publisher at a time: which start of a process a message comes from, and refusing everybody but one.
//!
//! Two processes under one name (a launch file that was started twice, a node that was started again while the old one
//! still lives) would otherwise take turns: each of their commands is sound, the mixture is not. A stream's messages carry
//! the number of their publisher's start, and its reader holds on to [`Sole`] one of them for as long as that one speaks.

use crate::{Span, Time};

/// The number of every start in runs that have to repeat to the last bit.
pub const FIRST: u64 = 1;

/// A number for the present start of a process: nanoseconds since 1970, so that two starts differ and the later one has
/// the larger.
pub fn of_this_start() -> u64 {
    u64::try_from(Time::wall().nanoseconds()).unwrap_or(FIRST).max(FIRST)
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It comes from the one that is listened to.
    Known,
    /// It comes from a new one, the old one being silent: what was remembered of the old one no longer holds.
    Successor,
    /// Another one still speaks: the message is not to be used. How many were refused so far.
    Refused(u64),
}

/// The one publisher of a stream that is listened to.
#[derive(Clone, Copy, Debug)]
pub struct Sole {
    silence: Span,
    heard: Option<(u64, Time)>,
    refused: u64,
}

impl Sole {
    /// A new publisher is accepted when the old one has been silent for `silence`.
    pub const fn new(silence: Span) -> Self {
        Self { silence, heard: None, refused: 0 }
    }

    /// Judges a message of a publisher.
    pub fn admit(&mut self, now: Time, instance: u64) -> Admission {
        match self.heard {
            Some((known, at)) if known != instance && now - at < self.silence && now >= at => {
                self.refused += 1;
                Admission::Refused(self.refused)
            }
            Some((known, _)) if known == instance => {
                self.heard = Some((instance, now));
                Admission::Known
            }
            before => {
                self.heard = Some((instance, now));
                // The first one succeeds nobody.
                if before.is_some() { Admission::Successor } else { Admission::Known }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Span = Span::from_millis(100);

    fn at(milliseconds: i64) -> Time {
        Time::ZERO + Span::from_millis(milliseconds)
    }

    #[test]
    fn a_second_one_is_refused_while_the_first_speaks_and_succeeds_it_afterwards() {
        let mut sole = Sole::new(SILENCE);
        assert_eq!(sole.admit(at(0), 7), Admission::Known);
        assert_eq!(sole.admit(at(10), 9), Admission::Refused(1));
        assert_eq!(sole.admit(at(20), 7), Admission::Known);
        // What is refused does not silence the first.
        assert_eq!(sole.admit(at(119), 9), Admission::Refused(2));
        assert_eq!(sole.admit(at(120), 9), Admission::Successor);
        assert_eq!(sole.admit(at(121), 9), Admission::Known);
        assert_eq!(sole.admit(at(122), 7), Admission::Refused(3), "the first comes back too late");
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut sole = Sole::new(SILENCE);
        assert_eq!(sole.admit(at(5000), 7), Admission::Known);
        assert_eq!(sole.admit(at(0), 9), Admission::Successor);
    }

    #[test]
    fn later_starts_have_larger_numbers() {
        let first = of_this_start();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(of_this_start() > first && first > FIRST);
    }
}
