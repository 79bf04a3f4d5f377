//! What the environment says about the DDS network.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
};

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
    /// The enclave whose credentials this process has (a folder of an SROS 2 keystore): it then neither hears nor is heard by
    /// anyone without such. Kept for as long as the process lives.
    pub enclave: Option<&'static Path>,
}

/// What an enclave holds, by the names that `ros2 security` gives.
const ENCLAVE_FILES: [&str; 6] = [
    "identity_ca.cert.pem",
    "permissions_ca.cert.pem",
    "cert.pem",
    "key.pem",
    "governance.p7s",
    "permissions.p7s",
];

/// What other middlewares read and this transport does not, with what serves here instead.
const FOREIGN: [(&str, &str); 6] = [
    ("ROS_STATIC_PEERS", "peers are found by multicast: set ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"),
    ("ROS_DISCOVERY_SERVER", "it is Fast DDS's own; peers are found by multicast"),
    ("FASTRTPS_DEFAULT_PROFILES_FILE", "it is Fast DDS's own"),
    ("FASTDDS_DEFAULT_PROFILES_FILE", "it is Fast DDS's own"),
    ("CYCLONEDDS_URI", "it is Cyclone DDS's own"),
    ("ROS_SECURITY_ROOT_DIRECTORY", "it is of old releases: set ROS_SECURITY_KEYSTORE"),
];

impl DdsConfig {
    /// From `ROS_DOMAIN_ID`, `ROS_AUTOMATIC_DISCOVERY_RANGE`, `ROS_LOCALHOST_ONLY`, `RMW_IMPLEMENTATION`, and
    /// `ROS_SECURITY_ENABLE`, `_STRATEGY`, `_KEYSTORE` and `_ENCLAVE_OVERRIDE`.
    ///
    /// # Errors
    /// Names the variable that cannot be understood.
    pub fn from_env() -> Result<Self, DdsError> {
        Self::of_enclave(None)
    }

    /// As [`Self::from_env`], for a node that belongs to this enclave unless the environment names another one.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn of_enclave(enclave: Option<&str>) -> Result<Self, DdsError> {
        Self::from_variables(|name| {
            let own = || enclave.filter(|_| name == "ROS_SECURITY_ENCLAVE_OVERRIDE").map(str::to_owned);
            std::env::var(name).ok().filter(|value| !value.is_empty()).or_else(own)
        })
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
        match given("ROS_LOCALHOST_ONLY").as_deref() {
            Some("1") => range = DiscoveryRange::Localhost,
            None | Some("0") => {}
            Some(other) => return Err(wrong("ROS_LOCALHOST_ONLY", other.to_owned(), "0 or 1")),
        }
        let cyclone = given("RMW_IMPLEMENTATION").is_some_and(|rmw| rmw.contains("cyclonedds"));
        let mapping = if cyclone { ServiceMapping::Cyclone } else { ServiceMapping::Enhanced };
        let enclave = Self::enclave(&given)?.map(|folder| &*Box::leak(folder.into_boxed_path()));
        Ok(Self { domain_id, range, mapping, enclave })
    }

    /// The folder with this process's credentials, as rcl finds it.
    fn enclave(given: &impl Fn(&'static str) -> Option<String>) -> Result<Option<PathBuf>, DdsError> {
        let wrong = |variable, value: String, expected| DdsError::Environment { variable, value, expected };
        match given("ROS_SECURITY_ENABLE").as_deref() {
            Some("true") => {}
            None | Some("false") => return Ok(None),
            Some(other) => return Err(wrong("ROS_SECURITY_ENABLE", other.to_owned(), "true or false")),
        }
        let enforced = match given("ROS_SECURITY_STRATEGY").as_deref() {
            Some("Enforce") => true,
            None | Some("Permissive") => false,
            Some(other) => {
                return Err(wrong("ROS_SECURITY_STRATEGY", other.to_owned(), "Enforce or Permissive"));
            }
        };
        let found = match given("ROS_SECURITY_KEYSTORE") {
            None => Err("ROS_SECURITY_KEYSTORE is not set".to_owned()),
            Some(keystore) => {
                let name = given("ROS_SECURITY_ENCLAVE_OVERRIDE").unwrap_or_default();
                let folder = Path::new(&keystore).join("enclaves").join(name.trim_matches('/'));
                match ENCLAVE_FILES.into_iter().find(|file| !folder.join(file).is_file()) {
                    Some(file) => Err(format!("{} is not there", folder.join(file).display())),
                    None if !cfg!(feature = "security") => {
                        Err("this build has no DDS security; build it with `--features security`".to_owned())
                    }
                    None => Ok(folder),
                }
            }
        };
        match found {
            Ok(folder) => Ok(Some(folder)),
            Err(reason) if enforced => Err(DdsError::Security { reason }),
            Err(reason) => {
                tracing::warn!("without security, as ROS_SECURITY_STRATEGY=Enforce is not set: {reason}");
                Ok(None)
            }
        }
    }

    /// What the environment asks for and this transport does not do, in words.
    pub fn ignored_variables() -> Vec<String> {
        Self::ignored(|name| std::env::var(name).ok())
    }

    fn ignored(variable: impl Fn(&'static str) -> Option<String>) -> Vec<String> {
        let given = |name| variable(name).filter(|value| !value.trim().is_empty());
        let mut ignored: Vec<String> = FOREIGN
            .iter()
            .filter(|(name, _)| given(name).is_some())
            .map(|(name, instead)| format!("{name} is ignored: {instead}"))
            .collect();
        let dds = ["rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp", "rmw_cyclonedds_cpp", "rmw_connextdds"];
        if let Some(rmw) = given("RMW_IMPLEMENTATION").filter(|rmw| !dds.contains(&rmw.trim())) {
            ignored.push(format!(
                "RMW_IMPLEMENTATION={rmw} is ignored: this node speaks DDS itself, and is heard by those who do; \
                 build it with `--features r2r` to use another middleware"
            ));
        }
        ignored
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
        #[cfg(feature = "security")]
        let builder = match self.enclave {
            None => builder,
            Some(folder) => builder.builtin_security(
                rustdds::DomainParticipantSecurityConfigFiles::with_ros_default_names(folder, String::new()),
            ),
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
            ("ROS_LOCALHOST_ONLY", "yes"),
            ("ROS_SECURITY_ENABLE", "1"),
            ("ROS_DOMAIN_ID", "233"),
            ("ROS_DOMAIN_ID", "-1"),
            ("ROS_AUTOMATIC_DISCOVERY_RANGE", "EVERYWHERE"),
        ] {
            let error = config(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn enforced_security_is_never_left_out_without_a_word() {
        let enforced = [("ROS_SECURITY_ENABLE", "true"), ("ROS_SECURITY_STRATEGY", "Enforce")];
        let error = config(&enforced).unwrap_err().to_string();
        assert!(error.contains("ROS_SECURITY_KEYSTORE"), "{error}");
        let keystore = tempfile::tempdir().unwrap();
        let folder = keystore.path().join("enclaves/drone");
        std::fs::create_dir_all(&folder).unwrap();
        let path = keystore.path().to_str().unwrap();
        let with = |more: &[(&str, &str)]| config(&[&enforced, more].concat());
        let drone = [("ROS_SECURITY_KEYSTORE", path), ("ROS_SECURITY_ENCLAVE_OVERRIDE", "/drone")];
        let error = with(&drone).unwrap_err().to_string();
        assert!(error.contains("enclaves/drone/identity_ca.cert.pem is not there"), "{error}");
        for file in ENCLAVE_FILES {
            std::fs::write(folder.join(file), "").unwrap();
        }
        match with(&drone) {
            Ok(config) => assert!(cfg!(feature = "security") && config.enclave == Some(folder.as_path())),
            Err(error) => {
                assert!(!cfg!(feature = "security") && error.to_string().contains("--features security"))
            }
        }
        let permissive = config(&[("ROS_SECURITY_ENABLE", "true")]).unwrap();
        assert_eq!(permissive.enclave, None);
        let off = config(&[("ROS_SECURITY_ENABLE", "false"), ("ROS_SECURITY_STRATEGY", "Enforce")]).unwrap();
        assert_eq!(off.enclave, None);
    }

    #[test]
    fn what_is_not_honoured_is_said() {
        let ignored = |variables: &[(&str, &str)]| {
            DdsConfig::ignored(|name| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(ignored(&[("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"), ("ROS_STATIC_PEERS", "")]).is_empty());
        let said = ignored(&[
            ("ROS_STATIC_PEERS", "10.0.0.1"),
            ("ROS_DISCOVERY_SERVER", "x:1"),
            ("RMW_IMPLEMENTATION", "rmw_zenoh_cpp"),
        ]);
        assert_eq!(said.len(), 3);
        assert!(
            said.iter()
                .zip(["ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "rmw_zenoh_cpp"])
                .all(|(s, w)| s.contains(w))
        );
    }
}
