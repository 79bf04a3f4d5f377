//! The flight authority node of Spikewing.
