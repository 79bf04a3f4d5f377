//! Error-state Kalman filter node of Spikewing.
