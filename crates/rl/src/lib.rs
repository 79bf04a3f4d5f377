//! TD3BC+JSRL on sequences: replay, critics, schedules and the learner of Spikewing.
