//! The learner node of Spikewing.
