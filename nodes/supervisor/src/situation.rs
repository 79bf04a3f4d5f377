//! The situation: all that is known of autopilot, vehicle and policies at one moment, with its age and health, judged
//! once and then only read.

use spikewing_runtime::Time;

use crate::envelope::Vehicle;

/// What the autopilot says, if it is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Autopilot {
    /// No fresh word of it.
    Silent,
    /// Its motors are off.
    Disarmed,
    /// Armed and in offboard mode: it does what we command.
    Ours,
    /// Armed, in a mode that the bridge asked for because commands had stopped; commands bring it back.
    Parked,
    /// Armed, in a mode that somebody else chose.
    Taken,
}

/// What is wrong, from harmless to hopeless; the worst that applies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Sound,
    /// The guide may fly on it, the student not.
    Doubtful(&'static str),
    /// Nobody may.
    Unflyable(&'static str),
}

/// One moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub autopilot: Autopilot,
    /// The newest state, whatever it is worth.
    pub vehicle: Option<Vehicle>,
    /// What that is worth.
    pub health: Health,
    /// Whether the guide has a command that may be flown.
    pub guide: Result<(), &'static str>,
    /// Whether the student has one.
    pub student: Result<(), &'static str>,
    pub at: Time,
}

impl Situation {
    /// The state of a vehicle that somebody here can fly and may command.
    pub fn flyable(&self) -> Result<Vehicle, &'static str> {
        match self.autopilot {
            Autopilot::Silent => return Err("no fresh vehicle/status"),
            Autopilot::Disarmed => return Err("the autopilot is disarmed"),
            Autopilot::Taken => return Err("somebody else flies"),
            Autopilot::Ours | Autopilot::Parked => {}
        }
        if let Health::Unflyable(reason) = self.health {
            return Err(reason);
        }
        let vehicle = self.vehicle.ok_or("no odometry")?;
        self.guide.map(|()| vehicle)
    }
}
