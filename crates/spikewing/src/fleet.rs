//! Several drones and one learner: each drone in a namespace of its own, what the learner says and hears in none.

use spikewing_runtime::{NodeKind, NodeOptions, parameter::Value};

use crate::registry;

/// Any error, for a person to read.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The drones fly to setpoints of their own, with noise of their own.
const SEED_STEP: i64 = 7919;
/// Topics that drones share with the learner.
const SHARED: [&str; 3] = ["experience", "policy/update", "learner/jump_start"];

/// The nodes of so many drones, from the options of one drone's in the order of the registry. One drone has no
/// namespace; several are `/drone_0`, `/drone_1` and so on.
///
/// # Errors
/// When a seed leaves its parameter's range.
pub fn nodes(one: &[NodeOptions], drones: usize) -> Result<Vec<(&'static NodeKind, NodeOptions)>, Failure> {
    let kinds = registry::NODES.into_iter().zip(one);
    if drones <= 1 {
        return Ok(kinds.map(|(kind, options)| (kind, options.clone())).collect());
    }
    let learns = |options: &NodeOptions| options.parameters.declaration("stop_after_updates").is_ok();
    let mut all = Vec::new();
    for drone in 0..drones {
        for (kind, options) in kinds.clone().filter(|(_, options)| !learns(options)) {
            all.push((kind, of_drone(options, drone)?));
        }
    }
    for (kind, options) in kinds.filter(|(_, options)| learns(options)) {
        let mut options = options.clone();
        // It goes on from the version that flies; the first drone tells.
        options.remaps.push(("policy/status".to_owned(), "/drone_0/policy/status".to_owned()));
        all.push((kind, options));
    }
    Ok(all)
}

fn of_drone(options: &NodeOptions, drone: usize) -> Result<NodeOptions, Failure> {
    let mut options = options.clone();
    options.namespace = format!("/drone_{drone}");
    options.remaps.extend(SHARED.map(|topic| (topic.to_owned(), format!("/{topic}"))));
    let number = i64::try_from(drone)?;
    if let Ok(seed) = options.parameters.integer("seed") {
        options
            .parameters
            .set("seed", Value::Integer((seed + number * SEED_STEP) % 1_000_000_000_000_000))?;
    }
    if options.parameters.declaration("publish_clock").is_ok() {
        options.parameters.set("publish_clock", Value::Bool(drone == 0))?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drones_have_names_and_seeds_of_their_own_and_share_a_learner() {
        let one: Vec<NodeOptions> = registry::NODES.into_iter().map(NodeOptions::of).collect();
        let all = nodes(&one, 3).unwrap();
        assert_eq!(all.len(), 3 * 6 + 1);
        let topic = |name: &str, kind: &str, topic: &str| {
            all.iter().find(|(k, o)| k.name == kind && o.namespace == name).unwrap().1.resolve(topic)
        };
        assert_eq!(topic("/drone_1", "supervisor", "experience"), "/experience");
        assert_eq!(topic("/drone_1", "supervisor", "odometry"), "/drone_1/odometry");
        assert_eq!(topic("/drone_2", "snn_policy", "policy/update"), "/policy/update");
        assert_eq!(topic("/", "online_learner", "policy/update"), "/policy/update");
        let mut seeds: Vec<i64> = all
            .iter()
            .filter(|(k, _)| k.name == "simulator")
            .map(|(_, o)| o.parameters.integer("seed").unwrap())
            .collect();
        seeds.dedup();
        assert_eq!(seeds.len(), 3);
        // One drone is as it always was.
        assert!(nodes(&one, 1).unwrap().iter().all(|(_, o)| o.namespace == "/" && o.remaps.is_empty()));
    }
}
