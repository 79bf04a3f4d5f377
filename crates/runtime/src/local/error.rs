//! What can go wrong in a composed run, and errors in words.

use std::any::Any;

/// Why a composed run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A node refused its parameters or files.
    #[error("node {node}: {reason}")]
    Build {
        /// Full name.
        node: String,
        /// The node's words.
        reason: String,
    },
    /// Two ends of a topic disagree.
    #[error("topic {topic}: {node} uses {used}, but {other} uses {known}; remap one of them")]
    TypeMismatch {
        /// Topic.
        topic: String,
        /// Node that was added later.
        node: String,
        /// Its type.
        used: &'static str,
        /// Node that was there.
        other: String,
        /// Its type.
        known: &'static str,
    },
    /// Two nodes offer the same service, or have the same name.
    #[error("{what} is there twice: in {node} and in {other}; give one of them another name or namespace")]
    Duplicate {
        /// Service or node name.
        what: String,
        /// One of them.
        node: String,
        /// The other.
        other: String,
    },
    /// A timer would fire without time going on.
    #[error("node {node}: timer {timer} has the period {seconds} s; it must be positive")]
    Timer {
        /// Full name.
        node: String,
        /// Timer.
        timer: &'static str,
        /// Its period.
        seconds: f64,
    },
    /// A node panicked: a defect of ours.
    #[error("node {node} failed at {time_s:.3} s: {reason} (this is a defect; please report it)")]
    Panicked {
        /// Full name.
        node: String,
        /// Simulated time.
        time_s: f64,
        /// The panic's message.
        reason: String,
    },
    /// A node ended the run with an error.
    #[error("node {node}: {reason}")]
    Failed {
        /// Full name.
        node: String,
        /// The node's words.
        reason: String,
    },
}

/// The message that a panic carried.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
