//! Whether PX4 is heard, and as expected: release, system id, agent. What is wrong is said with its mend.

use spikewing_runtime::{Span, Time};

use crate::px4::Release;

/// A link that is set up right has spoken within this.
const PATIENCE: Span = Span::from_millis(1800);

/// What was heard of PX4.
#[derive(Clone, Debug)]
pub struct Link {
    expected: Option<Release>,
    /// System id to speak to; `None`: PX4's own, from its status.
    target: Option<u8>,
    since: Option<Time>,
    /// Anything at all, when last.
    heard: Option<Time>,
    release: Option<Release>,
    other_release: Option<Release>,
    system: Option<u8>,
    unreadable: Option<String>,
}

impl Link {
    /// Nothing heard yet. What is expected of release and system id, where a person said so.
    pub fn new(expected: Option<Release>, target: Option<u8>) -> Self {
        Self {
            expected,
            target,
            since: None,
            heard: None,
            release: None,
            other_release: None,
            system: None,
            unreadable: None,
        }
    }

    /// Something came from PX4.
    pub fn heard(&mut self, now: Time) {
        self.heard = Some(now);
    }

    /// A status came in the layout of a release. Whether it may be used.
    pub fn status(&mut self, now: Time, release: Release, system: u8) -> bool {
        self.heard = Some(now);
        if self.expected.is_some_and(|expected| expected != release) {
            if self.other_release.replace(release).is_none() {
                tracing::error!("{}", self.wrong_release(release));
            }
            return false;
        }
        if self.release.replace(release) != Some(release) {
            tracing::info!("PX4 speaks as release {release}");
        }
        if self.system.replace(system) != Some(system)
            && let Some(target) = self.target.filter(|t| *t != system)
        {
            tracing::error!("{}", wrong_system(target, system));
        }
        true
    }

    /// A message of a topic could not be read.
    pub fn unreadable(&mut self, topic: &str) {
        if self.unreadable.as_deref() != Some(topic) {
            self.unreadable = Some(topic.to_owned());
        }
    }

    /// MAVLink system id to speak to.
    pub fn system(&self) -> u8 {
        self.target.or(self.system).unwrap_or(1)
    }

    /// What is wrong with the link, and its mend.
    pub fn trouble(&mut self, now: Time) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        if let (Some(target), Some(system)) = (self.target, self.system)
            && target != system
        {
            return Some(wrong_system(target, system));
        }
        if self.release.is_none()
            && let Some(other) = self.other_release
        {
            return Some(self.wrong_release(other));
        }
        if now - since < PATIENCE {
            return None;
        }
        match (self.heard, self.release) {
            (None, _) => Some(
                "nothing is heard from PX4: is the Micro XRCE-DDS agent running (MicroXRCEAgent udp4 -p 8888), the \
                 client in PX4 (uxrce_dds_client status), both in this ROS_DOMAIN_ID, and PX4's namespace in \
                 px4_namespace?"
                    .into(),
            ),
            (Some(_), None) => Some(self.unreadable.as_ref().map_or_else(
                || {
                    "PX4 is heard, but no vehicle_status of a release that is known (v1, v2, v4): PX4 is older than \
                     1.16 or newer than 1.18"
                        .into()
                },
                |topic| {
                    format!(
                        "PX4 is heard, but {topic} has another layout than its name says: are px4_msgs and PX4 of one \
                         release?"
                    )
                },
            )),
            (Some(at), Some(_)) if now - at > PATIENCE => Some(
                "PX4 is no longer heard: has the agent ended, or the link broken? It comes back by itself about 10 s \
                 after the agent"
                    .into(),
            ),
            _ => None,
        }
    }

    fn wrong_release(&self, heard: Release) -> String {
        let expected = self.expected.map_or_else(|| "auto".to_owned(), |r| r.to_string());
        format!(
            "px4_version is {expected}, but PX4 speaks as {heard}: leave px4_version at `auto`, or set it to {heard}"
        )
    }
}

fn wrong_system(target: u8, system: u8) -> String {
    format!(
        "target_system is {target}, but PX4's system id (MAV_SYS_ID) is {system}, so that it obeys nothing: leave \
         target_system at 0"
    )
}
