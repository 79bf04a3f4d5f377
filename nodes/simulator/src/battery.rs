//! A battery as PX4's own battery simulator has it: full while disarmed, emptied by time, or empty at once on demand.

/// PX4's `battery_status` warnings, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Warning {
    /// Enough is left.
    None = 0,
    /// Below BAT_LOW_THR.
    Low = 1,
    /// Below BAT_CRIT_THR.
    Critical = 2,
    /// Below BAT_EMERGEN_THR.
    Emergency = 3,
}

/// The battery.
#[derive(Clone, Copy, Debug)]
pub struct Battery {
    /// Time from full to empty, s; not above 0: it is never empty.
    drain_s: f64,
    remaining: f64,
    forced_empty: bool,
}

impl Battery {
    /// Full.
    pub fn new(drain_s: f64) -> Self {
        Self { drain_s, remaining: 1.0, forced_empty: false }
    }

    /// `dt_s` passes.
    pub fn update(&mut self, armed: bool, dt_s: f64) {
        if !armed {
            self.remaining = 1.0;
        } else if self.drain_s > 0.0 {
            self.remaining = (self.remaining - dt_s / self.drain_s).max(0.0);
        }
    }

    /// PX4's failure injection: empty, or as it was.
    pub fn force_empty(&mut self, empty: bool) {
        self.forced_empty = empty;
    }

    /// Share of the charge that is left.
    pub fn remaining(&self) -> f64 {
        if self.forced_empty { 0.0 } else { self.remaining }
    }

    /// By PX4's default thresholds (0.15, 0.07, 0.05).
    pub fn warning(&self) -> Warning {
        match self.remaining() {
            r if r < 0.05 => Warning::Emergency,
            r if r < 0.07 => Warning::Critical,
            r if r < 0.15 => Warning::Low,
            _ => Warning::None,
        }
    }
}
