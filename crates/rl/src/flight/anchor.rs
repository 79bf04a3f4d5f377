//! Where differentiable flights start: recorded states, and what was recorded before them.

use nalgebra::{Matrix3, Rotation3, UnitQuaternion, Vector3};
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{Disturbance, Observation, State, Vehicle};

use super::Airframe;
use crate::replay::{ACTION, Episode, Replay};

/// Recorded steps by which an anchor's airframe and the motion of its setpoint are told.
const LOOK_BACK: usize = 24;

/// A setpoint slower than this stands still, m/s: what the estimate's noise alone can look like.
const STILL_MPS: f64 = 0.05;

/// A recorded state from which a flight goes on.
pub struct Anchor<'a> {
    pub episode: &'a Episode,
    /// The episode's number.
    pub number: u64,
    pub step: usize,
    pub seed: u64,
}

impl<'a> Anchor<'a> {
    /// A step of the replay buffer that has the warm-up before it, of the newest `recent` ones unless that is 0.
    pub fn draw(
        replay: &'a Replay,
        warm: usize,
        recent: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Option<Self> {
        let n = replay.sequences();
        if n == 0 {
            return None;
        }
        let first = if recent == 0 { 0 } else { n - replay.sequences_of_newest(recent).clamp(1, n) };
        let (index, share, seed) = (rng.random_range(first..n), rng.random::<f64>(), rng.random());
        let sequence = replay.sequence(index)?;
        let room = sequence.length.checked_sub(warm)?;
        let step = sequence.start + warm + (share * (room + 1) as f64) as usize;
        let step = step.min(sequence.start + sequence.length);
        Some(Self { episode: sequence.episode, number: sequence.number, step, seed })
    }

    /// What was seen in the steps before it.
    pub fn before(&self, steps: usize) -> &[Observation] {
        &self.episode.observations[self.step - steps..self.step]
    }

    /// The action that was flown some steps before it, the first one where there are not so many.
    pub fn action_before(&self, steps: usize) -> [f32; ACTION] {
        let step = self.step.saturating_sub(steps).min(self.episode.len().saturating_sub(1));
        self.episode.actions.get(step).copied().unwrap_or_default()
    }

    /// First step of those that are looked back at.
    fn first(&self) -> usize {
        self.step.saturating_sub(LOOK_BACK)
    }

    /// The setpoint's velocity: what the position error's change leaves over when the vehicle's own velocity is taken off.
    pub fn setpoint_velocity(&self, period_s: f64) -> Vector3<f64> {
        let (first, last) = (self.first(), self.step);
        if last == first {
            return Vector3::zeros();
        }
        let observations = &self.episode.observations;
        let velocity = |o: &Observation| Vector3::new(o[12], o[13], o[14]).cast::<f64>();
        let position = |o: &Observation| Vector3::new(o[0], o[1], o[2]).cast::<f64>();
        let n = (last - first) as f64;
        let flown = (first..last)
            .map(|t| (velocity(&observations[t]) + velocity(&observations[t + 1])) / 2.0)
            .sum::<Vector3<f64>>()
            / n;
        let moved = position(&observations[last]) - position(&observations[first]);
        let velocity = flown - moved / (n * period_s);
        if velocity.norm() < STILL_MPS { Vector3::zeros() } else { velocity }
    }

    /// The recorded state, with the rotors given; the setpoint is the origin.
    pub fn state(&self, rotors: [f64; ACTION]) -> State {
        state(self.episode, self.step, rotors)
    }

    /// The airframe that predicts the recorded body rates and velocities best.
    pub fn airframe<'b>(&self, airframes: &'b [Airframe], period_s: f64) -> &'b Airframe {
        let mut best = (f64::INFINITY, &airframes[0]);
        for airframe in airframes.iter().filter(|_| airframes.len() > 1) {
            let vehicle = &airframe.vehicle;
            let mut rotors = [vehicle.hover_rotor(); ACTION];
            let mut error = 0.0;
            for step in 0..self.step {
                let action = self.episode.actions[step].map(f64::from);
                if step >= self.first() {
                    let was = state(self.episode, step, rotors);
                    let next =
                        spikewing_quad::step(vehicle, &was, &action, &Disturbance::default(), period_s);
                    let seen = state(self.episode, step + 1, rotors);
                    error += (next.body_rates - seen.body_rates).norm_squared()
                        + (next.velocity - seen.velocity).norm_squared();
                }
                rotors = follow(vehicle, rotors, &action, period_s);
            }
            if error < best.0 {
                best = (error, airframe);
            }
        }
        best.1
    }

    /// A vehicle's rotors at the anchor, when they followed what was commanded since the episode's start.
    pub fn rotors(&self, vehicle: &Vehicle, period_s: f64) -> [f64; ACTION] {
        let start = [vehicle.hover_rotor(); ACTION];
        self.episode.actions[..self.step]
            .iter()
            .fold(start, |rotors, action| follow(vehicle, rotors, &action.map(f64::from), period_s))
    }
}

/// The recorded state at a step of an episode, with the rotors given; the setpoint is the origin.
pub fn state(episode: &Episode, step: usize, rotors: [f64; ACTION]) -> State {
    let o = episode.observations[step].map(f64::from);
    let matrix = Matrix3::from_row_slice(&o[3..12]);
    let rotation = Rotation3::from_matrix_unchecked(matrix);
    State {
        position: Vector3::new(o[0], o[1], o[2]),
        orientation: UnitQuaternion::from_rotation_matrix(&rotation),
        velocity: Vector3::new(o[12], o[13], o[14]),
        body_rates: Vector3::new(o[15], o[16], o[17]),
        rotors,
    }
}

/// Rotors after a period of following a command with first-order lag.
pub fn follow(
    vehicle: &Vehicle,
    rotors: [f64; ACTION],
    action: &[f64; ACTION],
    period_s: f64,
) -> [f64; ACTION] {
    let lag = vehicle.motor_time_constant_s;
    std::array::from_fn(|i| {
        let command = vehicle.rotor_of_action(action[i]);
        let constant = if command >= rotors[i] { lag.rising } else { lag.falling };
        let share = if constant > 0.0 { 1.0 - (-period_s / constant).exp() } else { 1.0 };
        rotors[i] + (command - rotors[i]) * share
    })
}
