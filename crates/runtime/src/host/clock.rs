//! The node's clock: the wall, or what `/clock` says.

use std::time::Duration;

use crate::time::{Span, Time};

/// A step of the wall clock backwards that is hidden by standing still; a greater one is followed.
const HIDDEN_STEP: Span = Span::from_millis(100);

/// The node's clock.
#[derive(Debug)]
pub enum Clock {
    /// The wall clock, kept from small steps backwards.
    Wall {
        /// Last reading.
        last: Time,
    },
    /// Simulated time; none before the first message.
    Simulated {
        /// Last message's time.
        now: Option<Time>,
    },
}

impl Clock {
    /// The clock that the parameter `use_sim_time` asks for.
    pub fn new(use_sim_time: bool) -> Self {
        if use_sim_time { Self::Simulated { now: None } } else { Self::Wall { last: Time::ZERO } }
    }

    /// The present, or nothing when no simulated time has come yet.
    pub fn now(&mut self) -> Option<Time> {
        match self {
            Self::Wall { last } => {
                let wall = Time::wall();
                if *last > wall && *last - wall < HIDDEN_STEP {
                    return Some(*last);
                }
                *last = wall;
                Some(wall)
            }
            Self::Simulated { now } => *now,
        }
    }

    /// A message on `/clock`. Returns whether simulated time went backwards: the simulation was restarted.
    pub fn set(&mut self, time: Time) -> bool {
        match self {
            Self::Wall { .. } => false,
            Self::Simulated { now } => now.replace(time).is_some_and(|before| time < before),
        }
    }
}

/// When a timer is next due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    period: Span,
    next: Option<Time>,
}

impl Due {
    /// A timer that has not started.
    pub fn new(period: Span) -> Self {
        Self { period, next: None }
    }

    /// Whether it fires now. The first call starts it. Periods that passed unnoticed are skipped, not made up for.
    pub fn fires(&mut self, now: Time) -> bool {
        let Some(next) = self.next else {
            self.next = Some(now + self.period);
            return false;
        };
        // Time that went back more than a period is another time: start anew.
        if next - now > self.period + HIDDEN_STEP {
            self.next = Some(now + self.period);
            return false;
        }
        if now < next {
            return false;
        }
        let following = next + self.period;
        self.next = Some(if following > now { following } else { now + self.period });
        true
    }

    /// How long to sleep for it on the wall clock; nothing when it has not started.
    pub fn wait(&self, now: Time) -> Option<Duration> {
        self.next.map(|next| Duration::from_nanos(u64::try_from((next - now).nanoseconds()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Time {
        Time::ZERO + Span::from_millis(milliseconds)
    }

    #[test]
    fn a_timer_keeps_its_phase_skips_what_it_missed_and_survives_a_restart() {
        let mut due = Due::new(Span::from_millis(10));
        assert!(!due.fires(at(1000)));
        assert!(!due.fires(at(1009)));
        assert!(due.fires(at(1012)));
        assert_eq!(due.wait(at(1012)), Some(Duration::from_millis(8)));
        assert!(due.fires(at(1020)));
        assert!(due.fires(at(1500)));
        assert!(!due.fires(at(1501)));
        assert!(due.fires(at(1510)));
        assert!(!due.fires(at(0)), "simulated time began again");
        assert!(due.fires(at(10)));
    }

    #[test]
    fn simulated_time_is_unknown_before_the_first_message() {
        let mut clock = Clock::new(true);
        assert_eq!(clock.now(), None);
        assert!(!clock.set(at(5)));
        assert_eq!(clock.now(), Some(at(5)));
        assert!(clock.set(at(1)));
        let mut wall = Clock::new(false);
        let first = wall.now().unwrap();
        assert!(wall.now().unwrap() >= first);
    }
}
