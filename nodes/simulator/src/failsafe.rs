//! Which failsafe acts (`commander/failsafe/failsafe.cpp` and `framework.cpp`): the worst action of all causes, after
//! a time in hold for those that a pilot may still prevent, unless the pilot took over.

use spikewing_runtime::{Span, Time};

use crate::{autopilot::Mode, battery::Warning};

/// PX4's actions, in its order: a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing.
    None,
    /// A message.
    Warn,
    /// Position mode.
    Position,
    /// Altitude mode.
    Altitude,
    /// Stabilised mode.
    Stabilized,
    /// Stay.
    Hold,
    /// Fly home and land.
    Return,
    /// Land here.
    Land,
    /// Motors off, disarmed.
    Disarm,
    /// Motors off for good.
    Terminate,
}

impl Action {
    /// Values of COM_OBL_RC_ACT, as the parameter names them.
    pub const LOSS: &[(&str, Self)] = &[
        ("position", Self::Position),
        ("altitude", Self::Altitude),
        ("stabilized", Self::Stabilized),
        ("return", Self::Return),
        ("land", Self::Land),
        ("hold", Self::Hold),
        ("terminate", Self::Terminate),
        ("disarm", Self::Disarm),
    ];

    /// The mode that it flies, where it changes the intended one.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::Position => Some(Mode::Position),
            Self::Altitude => Some(Mode::Altitude),
            Self::Stabilized => Some(Mode::Stabilized),
            Self::Hold => Some(Mode::Hold),
            Self::Return => Some(Mode::Return),
            Self::Land => Some(Mode::Land),
            Self::Terminate => Some(Mode::Termination),
            Self::None | Self::Warn | Self::Disarm => None,
        }
    }

    fn may_be_taken_over(self) -> bool {
        matches!(self, Self::Hold | Self::Return | Self::Land)
    }
}

/// COM_LOW_BAT_ACT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowBattery {
    /// Only says so.
    Warning,
    /// Returns when critical.
    Return,
    /// Lands when critical.
    Land,
    /// Returns when critical, lands when empty.
    ReturnOrLand,
}

impl LowBattery {
    /// As the parameter names them.
    pub const NAMES: &[(&str, Self)] = &[
        ("warning", Self::Warning),
        ("return", Self::Return),
        ("land", Self::Land),
        ("return_or_land", Self::ReturnOrLand),
    ];

    /// What a warning of the battery leads to.
    pub fn action(self, warning: Warning) -> Action {
        match (self, warning) {
            (_, Warning::None) => Action::None,
            (Self::Warning, _) | (_, Warning::Low) => Action::Warn,
            (Self::Return, _) | (Self::ReturnOrLand, Warning::Critical) => Action::Return,
            (Self::Land | Self::ReturnOrLand, _) => Action::Land,
        }
    }
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Failsafe {
    /// COM_FAIL_ACT_T.
    delay: Span,
    battery_since: Option<Time>,
    battery_action: Action,
    taken_over: bool,
    selected: Action,
}

impl Failsafe {
    /// None active.
    pub fn new(delay: Span) -> Self {
        Self {
            delay,
            battery_since: None,
            battery_action: Action::None,
            taken_over: false,
            selected: Action::None,
        }
    }

    /// What acts.
    pub fn selected(&self) -> Action {
        self.selected
    }

    /// Whether a failsafe flies.
    pub fn active(&self) -> bool {
        self.selected > Action::Warn
    }

    /// Whether a pilot, or whoever else asked for a mode, took over from one.
    pub fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// Arming and disarming start over.
    pub fn clear(&mut self) {
        *self = Self::new(self.delay);
    }

    /// Somebody asked for a mode: where a failsafe flies, he takes over.
    pub fn on_mode_change(&mut self) {
        if self.selected.may_be_taken_over() {
            self.taken_over = true;
        }
    }

    /// `fallback`: what the intended mode, unable to run, falls back to; it acts at once and ends with its cause.
    /// `battery`: what the battery asks for.
    pub fn update(&mut self, now: Time, fallback: Action, battery: Action) -> Action {
        if battery > self.battery_action {
            // A new cause ends a take-over; its action waits in hold while a pilot could react.
            if self.battery_action <= Action::Warn && battery > Action::Warn {
                self.battery_since = Some(now);
                self.taken_over = false;
            }
            self.battery_action = battery;
        }
        // Whoever already flies a failsafe worse than hold does not go back to it.
        let waits =
            self.selected <= Action::Hold && self.battery_since.is_some_and(|since| now - since < self.delay);
        let battery = if waits { self.battery_action.min(Action::Hold) } else { self.battery_action };
        let wanted = battery.max(fallback);
        self.taken_over &= wanted.may_be_taken_over();
        self.selected = if self.taken_over { Action::Warn.max(fallback) } else { wanted };
        self.selected
    }
}
