//! What the environment says about the DDS network.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use rustdds::{DomainParticipant, DomainParticipantBuilder};

use super::DdsError;

/// Highest domain whose ports exist.
const HIGHEST_DOMAIN: u16 = 232;

/// How far a node looks for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscoveryRange {
    /// Nobody.
    Off,
    /// This machine, over the loopback interface only. Our default: a drone that trains must not be flown by whoever
    /// else is on the network.
    #[default]
    Localhost,
    /// Every machine that multicast reaches.
    Subnet,
}

/// How requests and responses are matched on the wire; the two ROS 2 middlewares differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceMapping {
    /// By sample identities in the RTPS header, as Fast DDS does.
    #[default]
    Enhanced,
    /// By a header of 16 bytes in the payload, as `rmw_cyclonedds` does.
    Cyclone,
}

/// Configuration of the DDS transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DdsConfig {
    /// Domain, 0 to 232.
    pub domain_id: u16,
    /// How far to look for others.
    pub range: DiscoveryRange,
    /// How to *call* services; as a server, a node answers in whichever form it is asked.
    pub mapping: ServiceMapping,
}

impl DdsConfig {
    /// From `ROS_DOMAIN_ID`, `ROS_AUTOMATIC_DISCOVERY_RANGE`, `ROS_LOCALHOST_ONLY` and `RMW_IMPLEMENTATION`.
    ///
    /// # Errors
    /// Names the variable that cannot be understood.
    pub fn from_env() -> Result<Self, DdsError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&'static str) -> Option<String>) -> Result<Self, DdsError> {
        let given = |name| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let wrong = |variable, value: String, expected| DdsError::Environment { variable, value, expected };
        let domain_id = match given("ROS_DOMAIN_ID") {
            None => 0,
            Some(value) => value
                .parse()
                .ok()
                .filter(|id| *id <= HIGHEST_DOMAIN)
                .ok_or_else(|| wrong("ROS_DOMAIN_ID", value, "a whole number from 0 to 232"))?,
        };
        let mut range = match given("ROS_AUTOMATIC_DISCOVERY_RANGE") {
            None => DiscoveryRange::default(),
            Some(value) => match value.to_uppercase().as_str() {
                "OFF" => DiscoveryRange::Off,
                "LOCALHOST" | "SYSTEM_DEFAULT" => DiscoveryRange::Localhost,
                "SUBNET" => DiscoveryRange::Subnet,
                _ => {
                    let expected = "LOCALHOST, SUBNET, OFF or SYSTEM_DEFAULT";
                    return Err(wrong("ROS_AUTOMATIC_DISCOVERY_RANGE", value, expected));
                }
            },
        };
        if given("ROS_LOCALHOST_ONLY").as_deref() == Some("1") {
            range = DiscoveryRange::Localhost;
        }
        let cyclone = given("RMW_IMPLEMENTATION").is_some_and(|rmw| rmw.contains("cyclonedds"));
        let mapping = if cyclone { ServiceMapping::Cyclone } else { ServiceMapping::Enhanced };
        Ok(Self { domain_id, range, mapping })
    }

    /// Joins the domain.
    pub(super) fn participant(&self) -> Result<DomainParticipant, DdsError> {
        let builder = DomainParticipantBuilder::new(self.domain_id);
        let builder = match self.range {
            DiscoveryRange::Off => builder.with_only_networks(Vec::<IpAddr>::new()).same_host_loopback(false),
            DiscoveryRange::Localhost => {
                let loopback = Ipv4Addr::LOCALHOST;
                UdpSocket::bind((loopback, 0)).map_err(|source| DdsError::NoLoopback { source })?;
                builder.with_only_networks([loopback])
            }
            DiscoveryRange::Subnet => builder,
        };
        builder
            .build()
            .map_err(|e| DdsError::Participant { domain_id: self.domain_id, reason: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<DdsConfig, DdsError> {
        DdsConfig::from_variables(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_is_honoured_and_mistakes_are_named() {
        assert_eq!(config(&[]).unwrap(), DdsConfig::default());
        let subnet = config(&[("ROS_DOMAIN_ID", "42"), ("ROS_AUTOMATIC_DISCOVERY_RANGE", "subnet")]).unwrap();
        assert_eq!((subnet.domain_id, subnet.range), (42, DiscoveryRange::Subnet));
        let cyclone = config(&[("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp"), ("ROS_DOMAIN_ID", "")]).unwrap();
        assert_eq!(cyclone.mapping, ServiceMapping::Cyclone);
        let local =
            config(&[("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET"), ("ROS_LOCALHOST_ONLY", "1")]).unwrap();
        assert_eq!(local.range, DiscoveryRange::Localhost);
        for (name, value) in [
            ("ROS_DOMAIN_ID", "233"),
            ("ROS_DOMAIN_ID", "-1"),
            ("ROS_AUTOMATIC_DISCOVERY_RANGE", "EVERYWHERE"),
        ] {
            let error = config(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
