//! `spikewing doctor`: what this machine has, what it lacks, and how to get it.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde_json::json;
use spikewing_runtime::{
    dds::{DdsConfig, DiscoveryRange},
    launch,
};
use spikewing_snn::policy::{Policy, Requirements};

use crate::Failure;

/// Tell what this machine lacks, and how to get it
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There.
    Found,
    /// Not there, and only some uses want it.
    Absent,
    /// Not there, and nothing works without it.
    Lacking,
}

/// One thing that was looked for.
struct Finding {
    what: &'static str,
    wanted_for: &'static str,
    state: State,
    /// What was found, or how to get it.
    detail: String,
}

impl Finding {
    fn new(
        what: &'static str,
        wanted_for: &'static str,
        otherwise: State,
        seen: Result<String, String>,
    ) -> Self {
        let (state, detail) = match seen {
            Ok(found) => (State::Found, found),
            Err(mend) => (otherwise, mend),
        };
        Self { what, wanted_for, state, detail }
    }
}

impl DoctorArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let findings = examine();
        if self.json {
            let list: Vec<_> = findings
                .iter()
                .map(|f| {
                    let state = match f.state {
                        State::Found => "found",
                        State::Absent => "absent",
                        State::Lacking => "lacking",
                    };
                    json!({"what": f.what, "wanted_for": f.wanted_for, "state": state, "detail": f.detail})
                })
                .collect();
            println!("{}", json!({ "findings": list }));
        } else {
            for f in &findings {
                let mark = match f.state {
                    State::Found => "ok    ",
                    State::Absent => "absent",
                    State::Lacking => "LACKS ",
                };
                println!("{mark} {:22} {}", f.what, f.detail);
                if f.state != State::Found {
                    println!("       {:22} wanted for {}", "", f.wanted_for);
                }
            }
        }
        let lacking: Vec<&str> =
            findings.iter().filter(|f| f.state == State::Lacking).map(|f| f.what).collect();
        if lacking.is_empty() { Ok(()) } else { Err(format!("lacking: {}", lacking.join(", ")).into()) }
    }
}

fn examine() -> Vec<Finding> {
    let here = Path::new("launch/here");
    let share = launch::share_folder(here);
    vec![
        Finding::new("processor", "training; live launches run seven processes", State::Absent, cores()),
        Finding::new("writable folder", "run folders", State::Lacking, writable()),
        Finding::new("loopback", "spikewing launch", State::Lacking, loopback()),
        Finding::new("DDS settings", "spikewing launch", State::Lacking, dds_settings()),
        Finding::new(
            "launch and params",
            "spikewing launch with $(find-pkg-share spikewing)",
            State::Absent,
            share
                .as_ref()
                .map(|dir| dir.display().to_string())
                .ok_or_else(|| "run from the project's folder, or set SPIKEWING_SHARE to it".to_owned()),
        ),
        Finding::new(
            "a trained policy",
            "launch/hover_sim.launch.yaml",
            State::Absent,
            policy(share.as_deref()),
        ),
        Finding::new("ROS 2", "ros2 launch, ros2 topic, ros2 bag", State::Absent, ros()),
        Finding::new(
            "Micro XRCE-DDS agent",
            "PX4, simulated or real",
            State::Absent,
            program(
                "MicroXRCEAgent",
                "build version 2.4.3 of github.com/eProsima/Micro-XRCE-DDS-Agent, or use docker/compose.yaml",
            ),
        ),
        Finding::new(
            "Gazebo",
            "launch/px4_gazebo.launch.yaml",
            State::Absent,
            program(
                "gz",
                "install Gazebo Harmonic (gazebosim.org/docs/harmonic/install), or use docker/compose.yaml",
            ),
        ),
        Finding::new("PX4", "launch/px4_gazebo.launch.yaml", State::Absent, px4()),
    ]
}

fn cores() -> Result<String, String> {
    let n = std::thread::available_parallelism().map_err(|e| format!("cannot be counted: {e}"))?.get();
    if n < 2 {
        return Err("1 core: use `spikewing train`, where time is simulated; a live launch wants 2".into());
    }
    Ok(format!("{n} cores"))
}

fn writable() -> Result<String, String> {
    let dir = std::env::current_dir().map_err(|e| format!("no current folder: {e}"))?;
    let probe = dir.join(format!(".spikewing-doctor-{}", std::process::id()));
    std::fs::create_dir(&probe)
        .and_then(|()| std::fs::remove_dir(&probe))
        .map_err(|e| format!("{}: {e}; go to a folder of yours, or give --out", dir.display()))?;
    Ok(dir.display().to_string())
}

/// The nodes reach each other by unicast on 127.0.0.1; so a datagram must get through there.
fn loopback() -> Result<String, String> {
    let mend = |e: std::io::Error| format!("127.0.0.1: {e}; bring it up: `sudo ip link set lo up`");
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let (reader, writer) = (UdpSocket::bind(any).map_err(mend)?, UdpSocket::bind(any).map_err(mend)?);
    reader.set_read_timeout(Some(Duration::from_secs(1))).map_err(mend)?;
    writer.send_to(b"spikewing", reader.local_addr().map_err(mend)?).map_err(mend)?;
    let mut bytes = [0; 16];
    let got = reader.recv(&mut bytes).map_err(mend)?;
    if bytes.get(..got) == Some(b"spikewing") {
        Ok("datagrams get through on 127.0.0.1".into())
    } else {
        Err("127.0.0.1 passes on other bytes than were sent; look for a firewall".into())
    }
}

fn dds_settings() -> Result<String, String> {
    let config = DdsConfig::from_env().map_err(|e| e.to_string())?;
    let range = match config.range {
        DiscoveryRange::Off => "of nobody",
        DiscoveryRange::Localhost => "of this machine",
        DiscoveryRange::Subnet => "of every machine that multicast reaches",
    };
    Ok(format!("domain {}, discovery {range}", config.domain_id))
}

fn policy(share: Option<&Path>) -> Result<String, String> {
    const MEND: &str = "make one: `spikewing train`";
    let file =
        share.map_or_else(PathBuf::new, Path::to_path_buf).join("policies/crazyflie/student.safetensors");
    if !file.is_file() {
        return Err(format!("{} is not there; {MEND}", file.display()));
    }
    let policy = Policy::load(&file).map_err(|e| format!("{e}; {MEND}"))?;
    policy.verify(&Requirements::none()).map_err(|e| format!("{}: {e}; {MEND}", file.display()))?;
    Ok(file.display().to_string())
}

fn ros() -> Result<String, String> {
    let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    if let Some(distribution) = set("ROS_DISTRO").filter(|_| set("AMENT_PREFIX_PATH").is_some()) {
        let known = matches!(distribution.as_str(), "humble" | "jazzy" | "kilted" | "rolling");
        let doubt = if known { "" } else { " (not one that was tried)" };
        return Ok(format!("{distribution} is sourced{doubt}"));
    }
    let mut installed: Vec<String> = std::fs::read_dir("/opt/ros")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("setup.bash").is_file())
        .map(|entry| entry.path().display().to_string())
        .collect();
    installed.sort();
    match installed.last() {
        Some(dir) => Err(format!("installed but not sourced: `source {dir}/setup.bash`")),
        None => {
            Err("not needed by `spikewing`; docs.ros.org/en/jazzy/Installation tells how to install it"
                .into())
        }
    }
}

fn px4() -> Result<String, String> {
    let candidates =
        [std::env::var_os("PX4_DIR").map(PathBuf::from), home().map(|h| h.join("PX4-Autopilot"))];
    candidates
        .into_iter()
        .flatten()
        .map(|dir| dir.join("build/px4_sitl_default/bin/px4"))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
        .ok_or_else(|| {
            "clone PX4-Autopilot v1.16 into your home, or set PX4_DIR, and `make px4_sitl`; or use docker/compose.yaml"
                .to_owned()
        })
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

fn program(name: &str, mend: &str) -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
        .ok_or_else(|| mend.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_says_something() {
        for finding in examine() {
            assert!(!finding.detail.is_empty() && !finding.wanted_for.is_empty(), "{}", finding.what);
        }
    }

    #[test]
    fn programs_are_looked_for_where_the_shell_looks() {
        assert!(program("sh", "").is_ok_and(|file| file.ends_with("/sh")));
        assert_eq!(program("no-such-program-of-anybody", "get it"), Err("get it".into()));
    }

    #[test]
    fn what_is_absent_is_no_failure_unless_it_is_needed() {
        let absent = Finding::new("x", "y", State::Absent, Err("mend".into()));
        let found = Finding::new("x", "y", State::Lacking, Ok("here".into()));
        assert_eq!((absent.state, absent.detail.as_str()), (State::Absent, "mend"));
        assert_eq!(found.state, State::Found);
    }
}
