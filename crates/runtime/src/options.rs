//! How one node is started: its name, namespace, remappings and parameters.

use crate::{instance, node::Context, parameter::Parameters};

/// What a remapping begins with that holds for topics only, or for services only.
pub const TOPIC_ONLY: [&str; 2] = ["rostopic://", "rosservice://"];

/// What the command line or a launch file says about one node.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Node name, e.g. `supervisor`.
    pub name: String,
    /// Namespace with a leading slash, e.g. `/` or `/drone_0`.
    pub namespace: String,
    /// Remappings of topics and services, first match wins.
    pub remaps: Vec<(String, String)>,
    /// Resolved parameters.
    pub parameters: Parameters,
    /// Whether the node's clock is `/clock`.
    pub use_sim_time: bool,
    /// What is logged: a level, e.g. `info`, perhaps with levels of single targets behind it.
    pub log_level: Option<String>,
    /// The security enclave that the node belongs to.
    pub enclave: Option<String>,
    /// What was given and has no effect, or perhaps not the one that was meant; the node logs it at its start.
    pub remarks: Vec<String>,
}

impl NodeOptions {
    /// Defaults of a kind of node.
    pub fn of(kind: &crate::NodeKind) -> Self {
        Self {
            name: kind.name.to_owned(),
            namespace: "/".to_owned(),
            parameters: Parameters::defaults((kind.declare)()),
            ..Self::default()
        }
    }

    /// What a node is built from in a run that has to repeat: every start is the first.
    pub fn context(&self) -> Context<'_> {
        Context {
            parameters: &self.parameters,
            name: &self.name,
            namespace: &self.namespace,
            instance: instance::FIRST,
        }
    }

    /// The node's full name, e.g. `/drone_0/supervisor`.
    pub fn full_name(&self) -> String {
        join(&self.namespace, &self.name)
    }

    /// The absolute name of a topic after namespace and remapping. `name` is relative (`odometry`), absolute
    /// (`/clock`) or private (`~/reset`).
    pub fn resolve(&self, name: &str) -> String {
        self.resolve_end(name, TOPIC_ONLY[0])
    }

    /// The absolute name of a service after namespace and remapping.
    pub fn resolve_service(&self, name: &str) -> String {
        self.resolve_end(name, TOPIC_ONLY[1])
    }

    /// Rules without a scheme hold for topics and services.
    fn resolve_end(&self, name: &str, scheme: &str) -> String {
        let expanded = self.expand(name);
        let fits = |from: &str| {
            let from = from.strip_prefix(scheme).unwrap_or(from);
            !from.contains("://") && self.expand(from) == expanded
        };
        let rule = self.remaps.iter().find(|(from, _)| fits(from));
        rule.map_or_else(|| expanded.clone(), |(_, to)| self.expand(to))
    }

    /// Whether a remapping concerns the name.
    pub fn remapped(&self, name: &str) -> bool {
        let expanded = self.expand(name);
        self.remaps.iter().any(|(from, _)| self.expand(from) == expanded)
    }

    fn expand(&self, name: &str) -> String {
        if name.starts_with('/') {
            name.to_owned()
        } else if let Some(private) = name.strip_prefix("~/") {
            join(&self.full_name(), private)
        } else {
            join(&self.namespace, name)
        }
    }
}

fn join(base: &str, name: &str) -> String {
    format!("{}/{name}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_as_in_ros() {
        let options = NodeOptions {
            name: "supervisor".into(),
            namespace: "/drone_0".into(),
            remaps: vec![("odometry".into(), "/mocap/odom".into()), ("~/arm".into(), "arm".into())],
            ..NodeOptions::default()
        };
        assert_eq!(options.resolve("command"), "/drone_0/command");
        assert_eq!(options.resolve("/clock"), "/clock");
        assert_eq!(options.resolve("~/land"), "/drone_0/supervisor/land");
        assert_eq!(options.resolve("odometry"), "/mocap/odom");
        assert_eq!(options.resolve("~/arm"), "/drone_0/arm");
        let root = NodeOptions { name: "a".into(), namespace: "/".into(), ..NodeOptions::default() };
        assert_eq!(root.resolve("x"), "/x");
        assert_eq!(root.resolve("~/x"), "/a/x");
    }
}
