//! Times that are told as their median, 99th percentile and maximum.

use hdrhistogram::{CreationError, Histogram};
use spikewing_runtime::Span;

/// Longest that is told apart, ns.
const LIMIT_NS: u64 = 3_600_000_000_000;

/// A distribution of times; noting one allocates nothing.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

/// Of a distribution, s; 0 while it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub p50: f32,
    pub p99: f32,
    pub max: f32,
}

impl Latency {
    pub fn new() -> Result<Self, CreationError> {
        Ok(Self(Histogram::new_with_bounds(1, LIMIT_NS, 3)?))
    }

    pub fn note(&mut self, span: Span) {
        let nanoseconds = u64::try_from(span.nanoseconds()).unwrap_or(0);
        self.0.saturating_record(nanoseconds.clamp(1, LIMIT_NS));
    }

    pub fn figures(&self) -> Figures {
        let seconds = |ns: u64| ns as f32 * 1e-9;
        Figures {
            p50: seconds(self.0.value_at_quantile(0.5)),
            p99: seconds(self.0.value_at_quantile(0.99)),
            max: seconds(self.0.max()),
        }
    }
}
