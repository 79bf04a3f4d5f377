//! Evaluation: whole episodes of a pilot in a simulator, and what is reported of them.

mod results;

use std::collections::VecDeque;

use nalgebra::Vector3;

use crate::{
    QuadError,
    dynamics::step,
    episode::Episode,
    perturbation::{Late, Perturbation},
    reward::{Reward, Termination},
    setpoint::Setpoint,
    smoothness::power_above_5hz,
    state::{Observation, State},
    vehicle::Vehicle,
};

pub use results::{EpisodeResult, Summary};

/// Whatever flies: a network, a controller, or one after the other.
pub trait Pilot {
    /// A new episode starts in this state.
    fn reset(&mut self, vehicle: &Vehicle, state: &State);

    /// The command for control step `step`, motors in [−1, 1].
    fn act(&mut self, observation: &Observation, step: usize) -> [f32; 4];
}

/// The guide flies the first `steps` steps, while the student observes and warms its hidden state; then the student.
#[derive(Debug)]
pub struct WarmStart<G, S> {
    /// Flies first.
    pub guide: G,
    /// Flies then.
    pub student: S,
    /// Steps of the guide.
    pub steps: usize,
}

impl<G: Pilot, S: Pilot> Pilot for WarmStart<G, S> {
    fn reset(&mut self, vehicle: &Vehicle, state: &State) {
        self.guide.reset(vehicle, state);
        self.student.reset(vehicle, state);
    }

    fn act(&mut self, observation: &Observation, step: usize) -> [f32; 4] {
        let student = self.student.act(observation, step);
        if step < self.steps { self.guide.act(observation, step) } else { student }
    }
}

/// Where episodes start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// At rest at the setpoint, rotors at hover.
    Paper,
    /// From the simulator's whole start distribution.
    Recovery,
}

/// Where the setpoint moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// It stays.
    Hover,
    /// A horizontal circle of 0.5 m radius, one turn in 6 s.
    Circle,
    /// A lying eight 1.0 m long and 0.5 m wide, one turn in 8 s.
    Figure8,
    /// A horizontal square with 1.0 m sides at 0.5 m/s.
    Square,
}

impl Task {
    /// Setpoint at a time, m; every path starts at the origin.
    pub fn setpoint(self, time_s: f64) -> Vector3<f64> {
        use std::f64::consts::TAU;
        match self {
            Self::Hover => Vector3::zeros(),
            Self::Circle => {
                let phase = TAU * time_s / 6.0;
                Vector3::new(0.5 * phase.sin(), 0.5 * (1.0 - phase.cos()), 0.0)
            }
            Self::Figure8 => {
                let phase = TAU * time_s / 8.0;
                Vector3::new(0.5 * phase.sin(), 0.25 * (2.0 * phase).sin(), 0.0)
            }
            Self::Square => {
                let along = (0.5 * time_s) % 4.0;
                match along {
                    a if a < 1.0 => Vector3::new(a, 0.0, 0.0),
                    a if a < 2.0 => Vector3::new(1.0, a - 1.0, 0.0),
                    a if a < 3.0 => Vector3::new(3.0 - a, 1.0, 0.0),
                    a => Vector3::new(0.0, 4.0 - a, 0.0),
                }
            }
        }
    }
}

/// An evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The simulator: a vehicle with its noise, disturbances and starts.
    pub vehicle: Vehicle,
    /// Where episodes start.
    pub protocol: Protocol,
    /// Where the setpoint moves.
    pub task: Task,
    /// Heading that is wanted, rad about world z, 0 is east: where every episode starts.
    pub heading_rad: f64,
    /// Reward reported.
    pub reward: Reward,
    /// Episodes.
    pub episodes: usize,
    /// Steps of a whole episode.
    pub steps: usize,
    /// What ends an episode early.
    pub termination: Termination,
    /// Control period, s.
    pub dt_s: f64,
    /// What the flights suffer beyond their simulator; nothing by default.
    pub perturbation: Perturbation,
    /// Seed of starts, noise and disturbances.
    pub seed: u64,
}

impl Evaluation {
    /// Protocol `paper` with the start coefficients in the paper's simulator.
    ///
    /// # Errors
    /// Never with the vehicle files as they ship.
    pub fn paper(episodes: usize, seed: u64) -> Result<Self, QuadError> {
        Ok(Self {
            vehicle: Vehicle::find("l2f0")?,
            protocol: Protocol::Paper,
            task: Task::Hover,
            heading_rad: 0.0,
            reward: Reward::start(),
            episodes,
            steps: 500,
            termination: Termination::paper(),
            dt_s: 0.01,
            perturbation: Perturbation::default(),
            seed,
        })
    }

    /// Flies all episodes. The same seed and pilot give the same bits.
    pub fn run(&self, pilot: &mut impl Pilot) -> Vec<EpisodeResult> {
        self.run_noting(pilot, || {})
    }

    /// The same, calling `flown` after every episode.
    pub fn run_noting(&self, pilot: &mut impl Pilot, flown: impl Fn()) -> Vec<EpisodeResult> {
        let one = |episode| {
            let result = self.episode(pilot, episode);
            flown();
            result
        };
        (0..self.episodes as u64).map(one).collect()
    }

    /// Flies one episode; episodes are independent of each other.
    pub fn episode(&self, pilot: &mut impl Pilot, episode: u64) -> EpisodeResult {
        let origin = self.task.setpoint(0.0);
        let mut begun = Episode::draw(&self.vehicle, self.protocol, &origin, self.dt_s, self.seed, episode);
        self.perturbation.apply(&mut begun, self.seed, episode);
        let mut state = begun.state;
        // Commands on their way to the motors, the oldest first.
        let mut underway = VecDeque::from(vec![begun.command_before(); begun.delay_steps]);
        pilot.reset(&self.vehicle, &state);
        let mut sums = [0.0; 4];
        let mut last: Option<[f32; 4]> = None;
        let mut flown = Vec::with_capacity(self.steps);
        let mut length = 0;
        let mut completed = true;
        let rhythm = self.perturbation.rhythm;
        let mut late = Late::by(self.perturbation.observation_age_s);
        for k in 0..self.steps {
            let time_s = rhythm.time_s(k, self.dt_s);
            let setpoint = self.task.setpoint(time_s);
            let wanted = Setpoint { position: setpoint, heading_rad: self.heading_rad };
            let was = late.see(time_s, &state);
            let seen = self.vehicle.simulation.add_noise(&wanted.observation_of(&was), &mut begun.rng);
            let action = pilot.act(&seen, k);
            // The reward judges the command that the motors can carry out.
            let applied = action.map(|a| if a.is_finite() { f64::from(a).clamp(-1.0, 1.0) } else { -1.0 });
            flown.push(applied);
            underway.push_back(applied);
            let arriving = underway.pop_front().unwrap_or(applied);
            let dt_s = rhythm.step_s(k, self.dt_s);
            state = step(&begun.vehicle, &state, &arriving, &begun.disturbance, dt_s);
            let setpoint = self.task.setpoint(rhythm.time_s(k + 1, self.dt_s));
            let error = state.position - setpoint;
            length += 1;
            if state.is_finite() {
                // As judged by somebody who faces that way.
                let wanted = Setpoint { position: setpoint, heading_rad: self.heading_rad };
                let (judged, from) = wanted.frame(&state);
                sums[0] += self.reward.of_state(&judged, &from, &applied);
                sums[1] += error.xy().norm();
                sums[2] += error.norm();
            }
            if let Some(last) = last {
                sums[3] +=
                    last.iter().zip(&action).map(|(a, b)| f64::from(b - a).powi(2)).sum::<f64>().sqrt();
            }
            last = Some(action);
            if self.termination.ends(&state, &setpoint) {
                completed = k + 1 == self.steps;
                break;
            }
        }
        let n = f64::from(length as u32);
        EpisodeResult {
            episode_return: sums[0],
            length,
            completed,
            xy_error_m: sums[1] / n,
            tracking_error_m: sums[2] / n,
            action_change_mean: sums[3] / (n - 1.0).max(1.0),
            action_power_above_5hz: power_above_5hz(&flown, self.dt_s),
        }
    }
}
