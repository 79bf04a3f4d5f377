//! Stamps held against the clock, so that one corrupt stamp cannot carry the filter away.

use spikewing_runtime::{Span, Time};

/// Largest difference between how far stamps advanced and how much time passed.
const TOLERANCE: Span = Span::from_millis(1000);
/// Stamps in a row that agree with each other but not with the past, after which they are believed.
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
    /// Stamp less time of arrival, of the last one believed.
    offset: Option<Span>,
    /// The same of the last one refused, and how many in a row were near it.
    candidate: Option<(Span, u32)>,
}

impl StampGuard {
    /// Judges a stamp that arrived now.
    pub fn judge(&mut self, stamp: Time, now: Time) -> Verdict {
        let offset = stamp - now;
        let near = |other: Span| {
            offset.nanoseconds().saturating_sub(other.nanoseconds()).abs() <= TOLERANCE.nanoseconds()
        };
        if self.offset.is_none_or(near) {
            self.offset = Some(offset);
            self.candidate = None;
            return Verdict::Continues;
        }
        let count = match self.candidate {
            Some((other, count)) if near(other) => count + 1,
            _ => 1,
        };
        self.candidate = Some((offset, count));
        if count < BELIEVED_AFTER {
            return Verdict::Refused;
        }
        self.offset = Some(offset);
        self.candidate = None;
        Verdict::NewEpoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupt_stamp_is_refused_and_a_new_epoch_is_believed() {
        let mut guard = StampGuard::default();
        let at = |ms: i64| Time::from_nanoseconds(ms * 1_000_000);
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
}
