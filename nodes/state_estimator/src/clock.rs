//! Stamps held against the clock and against each other: a corrupt stamp cannot carry the filter away, a late message is
//! told from a clock that was set, and a stamp from the future is refused.

use spikewing_runtime::{Span, Time};

/// A stamp so much further ahead of the clock than its stream's was is from the future.
const AHEAD: Span = Span::from_millis(40);
/// A message may be so much later than its stream.
const LATE: Span = Span::from_millis(1000);
/// Stamps that go back by less are only out of order.
const BACK: Span = Span::from_millis(20);
/// Stamps that agree with each other as well as this are of one clock.
const AGREEMENT: Span = Span::from_millis(5);
/// How fast a clock may fall behind the other, seconds a second.
const DRIFT: f64 = 0.03;
/// So many in a row that agree with each other but not with the past are believed: after a step back, …
const BACK_BELIEVED_AFTER: u32 = 2;
/// … and elsewhere.
const BELIEVED_AFTER: u32 = 5;

/// What to make of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It continues its stream.
    Continues,
    /// It does not fit; do not use the message.
    Refused,
    /// The stream goes on at another time (a simulator was started again, a clock was set).
    NewEpoch,
}

/// Watches the stamps of one stream. Stamps and the node's clock need not agree, only advance alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct StampGuard {
    /// Stamp less time of arrival, ns, the largest of late, and when it was so.
    promptest: Option<(i64, Time)>,
    newest: Option<Time>,
    /// Offset and stamp of the last one that does not fit, and how many in a row agree with it.
    candidate: Option<(i64, Time, u32)>,
}

impl StampGuard {
    /// Judges a stamp that arrived now.
    pub fn judge(&mut self, stamp: Time, now: Time) -> Verdict {
        let offset = (stamp - now).nanoseconds();
        let Some((promptest, at)) = self.promptest else {
            self.promptest = Some((offset, now));
            self.newest = Some(stamp);
            return Verdict::Continues;
        };
        let drifted = Span::from_seconds((now - at).seconds().clamp(0.0, 1e3) * DRIFT);
        let expected = promptest.saturating_sub(drifted.nanoseconds());
        let newest = self.newest.unwrap_or(stamp);
        let ahead = offset.saturating_sub(expected);
        let fits = ahead <= AHEAD.nanoseconds() && ahead >= -LATE.nanoseconds();
        // Whoever went back is watched until he has caught up.
        let back = if self.candidate.is_some() { Span::ZERO } else { BACK };
        if fits && stamp >= newest - back {
            self.candidate = None;
            self.promptest = Some((expected.max(offset), now));
            self.newest = Some(newest.max(stamp));
            return Verdict::Continues;
        }
        let count = match self.candidate {
            Some((other, last, count))
                if stamp > last
                    && offset.saturating_sub(other).saturating_abs() <= AGREEMENT.nanoseconds() =>
            {
                count + 1
            }
            _ => 1,
        };
        self.candidate = Some((offset, stamp, count));
        let enough = if fits { BACK_BELIEVED_AFTER } else { BELIEVED_AFTER };
        if count >= enough {
            *self = Self { promptest: Some((offset, now)), newest: Some(stamp), candidate: None };
            Verdict::NewEpoch
        } else if fits {
            // One that is late, as far as can be told.
            Verdict::Continues
        } else {
            Verdict::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time::from_nanoseconds(ms * 1_000_000)
    }

    /// After a second of a stream each 10 ms.
    fn running() -> StampGuard {
        let mut guard = StampGuard::default();
        for k in 0..100 {
            assert_eq!(guard.judge(at(10 * k), at(10 * k)), Verdict::Continues);
        }
        guard
    }

    #[test]
    fn a_corrupt_stamp_is_refused_and_a_new_epoch_is_believed() {
        let mut guard = StampGuard::default();
        assert_eq!(guard.judge(at(500_000), at(0)), Verdict::Continues);
        assert_eq!(guard.judge(at(500_010), at(12)), Verdict::Continues);
        assert_eq!(guard.judge(at(900_000), at(20)), Verdict::Refused);
        assert_eq!(guard.judge(at(500_030), at(30)), Verdict::Continues);
        let verdicts: Vec<_> = (0..5).map(|i| guard.judge(at(10 * i), at(40 + 10 * i))).collect();
        assert_eq!(verdicts[..4], [Verdict::Refused; 4]);
        assert_eq!(verdicts[4], Verdict::NewEpoch);
        assert_eq!(guard.judge(at(60), at(100)), Verdict::Continues);
        guard.judge(Time::from_nanoseconds(i64::MIN), Time::from_nanoseconds(i64::MAX));
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed_at_the_second_stamp() {
        for back in [40, 45, 100, 400, 950] {
            let mut guard = running();
            let verdicts: Vec<_> =
                (0..3).map(|k| guard.judge(at(1000 + 10 * k - back), at(1000 + 10 * k))).collect();
            let expected = [Verdict::Continues, Verdict::NewEpoch, Verdict::Continues];
            assert_eq!(verdicts, expected, "{back} ms");
        }
    }

    #[test]
    fn late_and_shuffled_messages_are_no_new_epoch() {
        // Each 200 ms late from now on, in order.
        let mut guard = running();
        for k in 100..200 {
            assert_eq!(guard.judge(at(10 * k), at(10 * k + 200)), Verdict::Continues);
        }
        // And prompt again.
        assert_eq!(guard.judge(at(2210), at(2210)), Verdict::Continues);
        let mut guard = running();
        for k in 25..50 {
            for i in [3, 0, 2, 1] {
                assert_eq!(guard.judge(at(40 * k + 10 * i), at(40 * k + 40)), Verdict::Continues);
            }
        }
        // One that is late among those that are not.
        let mut guard = running();
        assert_eq!(guard.judge(at(700), at(1000)), Verdict::Continues);
        assert_eq!(guard.judge(at(1010), at(1010)), Verdict::Continues);
    }

    #[test]
    fn a_stamp_from_the_future_is_refused() {
        for ahead in [60, 300, 900, 5000] {
            let mut guard = running();
            assert_eq!(guard.judge(at(1000 + ahead), at(1000)), Verdict::Refused, "{ahead} ms");
            assert_eq!(guard.judge(at(1010), at(1010)), Verdict::Continues);
        }
    }

    #[test]
    fn a_clock_that_is_one_percent_slow_or_fast_is_followed() {
        for rate in [0.99, 1.01] {
            let mut guard = StampGuard::default();
            for k in 0..10_000 {
                let stamp = Time::from_nanoseconds((10e6 * rate * f64::from(k)) as i64);
                assert_eq!(guard.judge(stamp, at(10 * i64::from(k))), Verdict::Continues);
            }
        }
    }
}
