//! What Fast DDS, ROS 2's default middleware, is told where the user tells it nothing.
//!
//! Fast DDS carries samples between processes of one machine through shared memory. The first sample for a process that
//! has just appeared waits until that process answers a health check, which takes a busy one some tenths of a second,
//! and with it every other sample of the *sending* process waits: a `ros2 topic echo` that starts would hold the drone's
//! control up. Over UDP a send never waits for who listens. So our processes use UDP alone; others may have what they
//! like, as both ends must offer shared memory for it to be used.

use std::path::Path;

/// Names the transports that Fast DDS brings along.
const TRANSPORTS: &str = "FASTDDS_BUILTIN_TRANSPORTS";
/// A user who sets one of these has configured Fast DDS.
const CONFIGURED_BY: [&str; 3] =
    [TRANSPORTS, "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"];
/// The file that Fast DDS looks for in the working directory.
const PROFILES: &str = "DEFAULT_FASTRTPS_PROFILES.xml";

/// What to set before rcl starts, if anything.
pub fn wanted(
    variable: impl Fn(&str) -> Option<String>,
    exists: impl Fn(&Path) -> bool,
) -> Option<(&'static str, &'static str)> {
    let given = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let other_rmw = variable("RMW_IMPLEMENTATION").is_some_and(|rmw| !rmw.is_empty() && !rmw.contains("fastrtps"));
    let configured = CONFIGURED_BY.into_iter().any(given) || exists(Path::new(PROFILES));
    (!other_rmw && !configured).then_some((TRANSPORTS, "UDPv4"))
}

/// Prepares this process's environment. To be called while the process has one thread only.
pub fn prepare() {
    if let Some((name, value)) = wanted(|name| std::env::var(name).ok(), Path::exists) {
        // SAFETY: no other thread is there to read the environment.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], file: bool) -> Option<(&'static str, &'static str)> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        wanted(find, |_| file)
    }

    #[test]
    fn fast_dds_gets_udp_alone_unless_the_user_says_otherwise() {
        let ours = Some((TRANSPORTS, "UDPv4"));
        assert_eq!(with(&[], false), ours);
        assert_eq!(with(&[("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"), (TRANSPORTS, "")], false), ours);
        assert_eq!(with(&[("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")], false), None);
        for name in CONFIGURED_BY {
            assert_eq!(with(&[(name, "x")], false), None, "{name}");
        }
        assert_eq!(with(&[], true), None);
    }
}
