//! What Fast DDS, ROS 2's default middleware, is told where the user tells it nothing (fast_dds.xml).
//!
//! **UDP alone.** Fast DDS carries samples between processes of one machine through shared memory. The first sample for a
//! process that has just appeared waits until that process answers a health check, which takes a busy one some tenths of
//! a second, and with it every other sample of the *sending* process waits: a `ros2 topic echo` that starts would hold the
//! drone's control up. Over UDP a send never waits for who listens. Other processes may have what they like, as both ends
//! must offer shared memory for it to be used.
//!
//! **Announcements five times a second.** A process that joins announces itself before it can hear the answer, and is
//! answered once. When that is lost it learns of us by our next announcement, of which Fast DDS makes one in three seconds:
//! a late joiner waited up to that long for its first sample, and `ros2 topic echo --no-daemon`, which looks for half a
//! second, found no topic.
//!
//! **Heartbeats ten times a second** while a reliable reader has not confirmed everything. A reader that joins asks once for
//! what is latched; when that comes before the writer knows of it, it gets its sample with the writer's next heartbeat, of
//! which Fast DDS, too, makes one in three seconds.

use std::{ffi::CString, io, path::Path};

/// Names the file of profiles.
const PROFILES_FILE: &str = "FASTRTPS_DEFAULT_PROFILES_FILE";
/// A user who sets one of these has configured Fast DDS.
const CONFIGURED_BY: [&str; 3] =
    [PROFILES_FILE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"];
/// The file that Fast DDS looks for in the working directory.
const LOCAL_PROFILES: &str = "DEFAULT_FASTRTPS_PROFILES.xml";

/// Whether Fast DDS is to run, and nobody has configured it.
fn is_ours(variable: impl Fn(&str) -> Option<String>, exists: impl Fn(&Path) -> bool) -> bool {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    given("RMW_IMPLEMENTATION").is_none_or(|rmw| rmw.contains("fastrtps"))
        && !CONFIGURED_BY.into_iter().any(|name| given(name).is_some())
        && !exists(Path::new(LOCAL_PROFILES))
}

/// Prepares this process's environment. To be called while the process has one thread only.
///
/// # Errors
/// When the system has no memory for the profiles.
pub fn prepare() -> io::Result<()> {
    if is_ours(|name| std::env::var(name).ok(), Path::exists) {
        let file = profiles()?;
        // SAFETY: no other thread is there to read the environment.
        unsafe { std::env::set_var(PROFILES_FILE, file) };
    }
    Ok(())
}

/// The profiles as a file that lives in memory, as long as this process does.
fn profiles() -> io::Result<String> {
    use std::{fs::File, io::Write, os::fd::FromRawFd};
    let name = CString::new("fast_dds.xml")?;
    // SAFETY: the name ends with a zero.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(include_bytes!("fast_dds.xml"))?;
    // It stays open: Fast DDS opens it by its number.
    std::mem::forget(file);
    Ok(format!("/proc/self/fd/{descriptor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], file: bool) -> bool {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        is_ours(find, |_| file)
    }

    #[test]
    fn fast_dds_gets_our_profiles_unless_the_user_has_others() {
        assert!(with(&[], false));
        assert!(with(&[("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"), (PROFILES_FILE, "")], false));
        assert!(!with(&[("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")], false));
        for name in CONFIGURED_BY {
            assert!(!with(&[(name, "x")], false), "{name}");
        }
        assert!(!with(&[], true));
    }

    #[test]
    fn the_profiles_can_be_read_as_a_file() {
        let file = profiles().unwrap();
        assert_eq!(std::fs::read(file).unwrap(), include_bytes!("fast_dds.xml"));
    }
}
