//! What Fast DDS, ROS 2's default middleware, is told where the user tells it nothing (fast_dds.xml).
//!
//! **UDP alone.** Fast DDS carries samples between processes of one machine through shared memory. Flights were seen to miss
//! 0.2 to 0.3 s of control when a process such as `ros2 topic echo` joined, with shared memory and never without; most likely
//! the first sample for a new process waits for its answer to a health check, and every other sample of the *sending*
//! process behind it. Other processes may have what they like, as both ends must offer shared memory for it to be used.
//!
//! **Announcements five times a second.** A process that joins announces itself before it can hear the answer, and is
//! answered once. When that is lost it learns of us by our next announcement, of which Fast DDS makes one in three seconds:
//! a late joiner waited up to that long for its first sample, and `ros2 topic echo --no-daemon`, which looks for half a
//! second, found no topic.
//!
//! **Heartbeats ten times a second** while a reliable reader has not confirmed everything. A reader that joins asks once for
//! what is latched; when that comes before the writer knows of it, it gets its sample with the writer's next heartbeat, of
//! which Fast DDS, too, makes one in three seconds.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

/// Where this process's profiles lie until they are loaded.
static PROFILES: OnceLock<PathBuf> = OnceLock::new();

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
/// When the profiles cannot be written; the process may go on without them.
pub fn prepare() -> io::Result<()> {
    if is_ours(|name| std::env::var(name).ok(), Path::exists) {
        let file = PROFILES.get_or_init(|| name(&std::env::temp_dir()));
        write(file)?;
        // SAFETY: no other thread is there to read the environment.
        unsafe { std::env::set_var(PROFILES_FILE, file) };
    }
    Ok(())
}

/// Fast DDS has read its profiles, or never will: the file goes.
pub fn loaded() {
    if let Some(file) = PROFILES.get() {
        // Somebody who has removed it already is no trouble.
        let _ = std::fs::remove_file(file);
    }
}

fn name(folder: &Path) -> PathBuf {
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    folder.join(format!("spikewing-fast_dds-{}-{nanoseconds}.xml", std::process::id()))
}

/// Fast DDS takes no file but one with a path: a file in memory alone will not do.
fn write(file: &Path) -> io::Result<()> {
    // A new file, nobody else's, readable by us alone.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(include_bytes!("fast_dds.xml"))
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
    fn the_profiles_are_a_file_of_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = name(folder.path());
        write(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), include_bytes!("fast_dds.xml"));
        assert!(write(&file).is_err(), "a file that is there is somebody's");
    }
}
