//! Topics whose installed types are those that this program was built for.

use super::{R2rError, layout};
use crate::host::plan::{Plan, TopicPlan};

/// PX4's messages, which change from release to release under the same names.
const PX4: &str = "px4_msgs/";

/// Indices of the inputs that can be read. Where a node listens for several releases of one type (PX4's status), those
/// that are not installed are left out.
///
/// # Errors
/// When no input of a type can be read.
pub fn readable(plan: &Plan) -> Result<Vec<usize>, R2rError> {
    let verdicts: Vec<Result<(), String>> = plan.inputs.iter().map(agrees).collect();
    let mut readable = Vec::new();
    for (index, (end, verdict)) in plan.inputs.iter().zip(&verdicts).enumerate() {
        let Err(reason) = verdict else {
            readable.push(index);
            continue;
        };
        let another = plan.inputs.iter().zip(&verdicts).any(|(e, v)| e.ros_type == end.ros_type && v.is_ok());
        if !another {
            return Err(refused(end, reason));
        }
        tracing::info!(topic = end.topic, "not listened to: {reason}");
    }
    Ok(readable)
}

/// Whether all outputs can be written.
///
/// # Errors
/// Names the first that cannot.
pub fn writable(plan: &Plan) -> Result<(), R2rError> {
    plan.outputs.iter().try_for_each(|end| agrees(end).map_err(|reason| refused(end, &reason)))
}

fn agrees(end: &TopicPlan) -> Result<(), String> {
    layout::compare(&layout::installed(end.ros_type)?, end.layout)
        .map_err(|e| format!("{}: {e}", end.ros_type))
}

fn refused(end: &TopicPlan, reason: &str) -> R2rError {
    let (name, reason) = (end.topic.clone(), reason.to_owned());
    if end.ros_type.starts_with(PX4) {
        let wanted = end.definition.lines().next().unwrap_or_default();
        return R2rError::Px4Messages {
            name,
            reason,
            wanted: wanted.trim_start_matches(['#', ' ']).to_owned(),
        };
    }
    R2rError::Definition { name, reason }
}
