//! The last 32 applied actions, which the privileged guide sees: the motors' lag makes them part of the state.

use spikewing_quad::{OBSERVATION, Observation};

/// Actions held.
pub const LENGTH: usize = 32;
/// Numbers in the privileged observation.
pub const PRIVILEGED: usize = OBSERVATION + 4 * LENGTH;

/// A ring of actions, oldest first when read.
#[derive(Clone, Debug)]
pub struct History {
    actions: [[f32; 4]; LENGTH],
    next: usize,
}

impl History {
    /// Filled with one action, that of hover.
    pub fn filled(action: f32) -> Self {
        Self { actions: [[action; 4]; LENGTH], next: 0 }
    }

    /// Takes the action that was applied last.
    pub fn push(&mut self, action: [f32; 4]) {
        self.actions[self.next] = action;
        self.next = (self.next + 1) % LENGTH;
    }

    /// Observation, then actions, oldest first.
    pub fn privileged(&self, observation: &Observation) -> [f32; PRIVILEGED] {
        let mut all = [0.0; PRIVILEGED];
        all[..OBSERVATION].copy_from_slice(observation);
        for (i, slot) in all[OBSERVATION..].chunks_exact_mut(4).enumerate() {
            slot.copy_from_slice(&self.actions[(self.next + i) % LENGTH]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_action_comes_first() {
        let mut history = History::filled(0.25);
        for k in 1..=3 {
            history.push([k as f32; 4]);
        }
        let seen = history.privileged(&[9.0; OBSERVATION]);
        assert_eq!(seen[0], 9.0);
        assert_eq!(seen[OBSERVATION], 0.25);
        assert_eq!(seen[PRIVILEGED - 1], 3.0);
        assert_eq!(seen[PRIVILEGED - 9], 1.0);
    }
}
