//! The nodes that this program holds: those that fly and learn, and those beside them.

use spikewing_runtime::NodeKind;

/// In the order in which a composed run calls them at one instant: from sensors to motors, then the learner.
pub const NODES: [&NodeKind; 7] = [
    &spikewing_simulator::NODE,
    &spikewing_px4_bridge::NODE,
    &spikewing_state_estimator::NODE,
    &spikewing_guide_policy::NODE,
    &spikewing_snn_policy::NODE,
    &spikewing_supervisor::NODE,
    &spikewing_online_learner::NODE,
];

/// Nodes beside the control loop: nothing that flies waits for them.
pub const ASIDE: [&NodeKind; 1] = [&spikewing_recorder::NODE];

/// Every node.
pub fn all() -> impl Iterator<Item = &'static NodeKind> {
    NODES.into_iter().chain(ASIDE)
}

/// The node of that name, or an error with all names and the nearest.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static NodeKind, String> {
    all().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|kind| kind.name).collect();
        let nearest = names
            .iter()
            .map(|n| (strsim::jaro_winkler(n, name), *n))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = nearest.map(|(_, n)| format!("; did you mean `{n}`?")).unwrap_or_default();
        format!("there is no node `{name}`{hint} The nodes are: {}", names.join(", "))
    })
}
