//! What PX4 itself thinks is wrong, in words.

use spikewing_msgs::px4_msgs::{FailsafeFlags, FailsafeFlagsV16, FailsafeFlagsV18, VehicleStatus};

/// PX4's flags, of whatever release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// 0 none, 1 low, 2 critical, 3 emergency, more: a fault of the battery.
    pub battery_warning: u8,
    /// Everything that is wrong and matters here, in words.
    pub troubles: Vec<&'static str>,
}

impl Health {
    /// The words in one line; empty: nothing.
    pub fn line(&self) -> String {
        self.troubles.join(", ")
    }
}

/// What offboard mode needs: PX4 says for each condition which modes need it.
fn needed(mask: u32) -> bool {
    mask & (1 << VehicleStatus::NAVIGATION_STATE_OFFBOARD) != 0
}

/// The fields are named alike in all releases that have them.
macro_rules! common {
    ($m:expr, $troubles:expr, $accuracy:ident) => {{
        let m = $m;
        let mut say = |wrong: bool, words: &'static str| {
            if wrong {
                $troubles.push(words);
            }
        };
        match m.battery_warning {
            0 => {}
            1 => say(true, "battery low"),
            2 => say(true, "battery critical"),
            3 => say(true, "battery emergency"),
            _ => say(true, "battery failed"),
        }
        say(m.battery_low_remaining_time, "too little flight time left in the battery");
        say(m.battery_unhealthy, "battery unhealthy");
        say(m.angular_velocity_invalid && needed(m.mode_req_angular_velocity), "no valid body rates");
        say(m.attitude_invalid && needed(m.mode_req_attitude), "no valid attitude");
        say(m.local_altitude_invalid && needed(m.mode_req_local_alt), "no valid height");
        say(m.local_position_invalid && needed(m.mode_req_local_position), "no valid local position");
        say(m.global_position_invalid && needed(m.mode_req_global_position), "no valid global position");
        say(m.home_position_invalid && needed(m.mode_req_home_position), "no home position");
        say(m.manual_control_signal_lost && needed(m.mode_req_manual_control), "no radio control");
        say(needed(m.mode_req_prevent_arming), "the mode forbids arming");
        say(m.geofence_breached, "geofence breached");
        say(m.wind_limit_exceeded, "wind too strong");
        say(m.flight_time_limit_exceeded, "flight time limit exceeded");
        say(m.$accuracy, "position accuracy low");
        say(m.navigator_failure, "navigator failure");
        say(m.fd_critical_failure, "critical failure detected (tilt, height or external)");
        say(m.fd_esc_arming_failure, "a motor controller did not arm");
        say(m.fd_imbalanced_prop, "a propeller is out of balance");
        say(m.fd_motor_failure, "a motor failed");
        m.battery_warning
    }};
}

impl From<&FailsafeFlagsV16> for Health {
    fn from(m: &FailsafeFlagsV16) -> Self {
        let mut troubles = Vec::new();
        let battery_warning = common!(m, troubles, local_position_accuracy_low);
        Self { battery_warning, troubles }
    }
}

impl From<&FailsafeFlags> for Health {
    fn from(m: &FailsafeFlags) -> Self {
        let mut troubles = Vec::new();
        let battery_warning = common!(m, troubles, position_accuracy_low);
        Self { battery_warning, troubles }
    }
}

impl From<&FailsafeFlagsV18> for Health {
    fn from(m: &FailsafeFlagsV18) -> Self {
        let mut troubles = Vec::new();
        let battery_warning = common!(m, troubles, position_accuracy_low);
        for (wrong, words) in [
            (m.fd_alt_loss, "height lost"),
            (m.parachute_unhealthy, "parachute unhealthy"),
            (m.remote_id_unhealthy, "remote identification unhealthy"),
            (m.gnss_lost, "satellite navigation lost"),
        ] {
            if wrong {
                troubles.push(words);
            }
        }
        Self { battery_warning, troubles }
    }
}

/// Why PX4 was disarmed last (`latest_disarming_reason`); empty: it was not.
pub fn disarm_reason(number: u8) -> String {
    let words = match number {
        0 => "",
        1 => "by a stick gesture",
        2 => "by a switch",
        3 => "by PX4 itself",
        4 => "by a command",
        6 => "after landing",
        7 => "for want of a take-off",
        8 => "by the kill switch",
        9 => "by a lockdown",
        10 => "by the failure detector",
        11 => "for a shutdown",
        12 => "by a unit test",
        13 => "by a button",
        14 => "by a failsafe",
        other => return format!("for PX4's reason {other}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_to_offboard_mode_is_named_and_nothing_else() {
        let offboard = 1 << VehicleStatus::NAVIGATION_STATE_OFFBOARD;
        let quiet = FailsafeFlags {
            // A mission is missing and there is no radio control, but the mode needs neither.
            auto_mission_missing: true,
            manual_control_signal_lost: true,
            mode_req_manual_control: !offboard,
            ..Default::default()
        };
        assert_eq!(Health::from(&quiet), Health::default());
        let bad = FailsafeFlags {
            battery_warning: 2,
            geofence_breached: true,
            local_position_invalid: true,
            mode_req_local_position: offboard,
            ..quiet
        };
        let health = Health::from(&bad);
        assert_eq!(health.line(), "battery critical, no valid local position, geofence breached");
        assert_eq!(health.battery_warning, 2);
        let lost = FailsafeFlagsV18 { gnss_lost: true, ..Default::default() };
        assert_eq!(Health::from(&lost).line(), "satellite navigation lost");
        let old = FailsafeFlagsV16 { local_position_accuracy_low: true, ..Default::default() };
        assert_eq!(Health::from(&old).line(), "position accuracy low");
    }
}
