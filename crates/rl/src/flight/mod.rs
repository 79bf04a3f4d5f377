//! Differentiable flight: the student learns by backpropagation through its own closed loop (`anchored_bptt`).
//!
//! A flight starts at a state that was really visited, with the membranes that the recorded observations before it leave,
//! and goes on for a short horizon in the equations of motion, the student acting on what it sees there. The loss is the
//! negative reward of those steps, and its gradient is exact through the equations ([`spikewing_quad::differentiable`]) and
//! goes through the spikes by the surrogate ([`spikewing_snn::closed_loop`]). No critic has to learn first.
//!
//! What flies is the airframe whose prediction fits the recorded steps best, and, where asked for, the forces and torques that
//! it leaves unexplained ([`residual`]), so that the model is the drone that flew.
//!
//! Related: short-horizon policy learning through differentiable simulation (SHAC, Xu et al. 2022; "Learning on the Fly",
//! arXiv 2508.21065; anchoring at visited states, arXiv 2602.10111), there with networks without state.

mod anchor;
mod path;
pub mod residual;
mod world;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use spikewing_quad::{OBSERVATION, Reward, Vehicle, differentiable::Plant};
use spikewing_snn::{BackwardOptions, Gradients, Network, closed_loop};

use crate::{Config, TrainError, guide::Variation, replay::Replay};
use anchor::Anchor;
use residual::{Fit, Residual};
use world::Flight;

/// Whether the model is corrected by what was flown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelCorrection {
    /// The airframes' files alone.
    #[default]
    None,
    /// The motors' lag, and a residual of forces and torques, fitted to each recorded episode for the flights that start in
    /// it.
    Fitted,
}

/// Settings of differentiable flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlightConfig {
    /// Airframes, whose equations the flights follow.
    pub vehicles: Vec<Vehicle>,
    /// Steps of a flight.
    pub horizon: usize,
    /// Flights at an update.
    pub flights: usize,
    /// Weight of the negative reward, mean over steps, in the actor's loss.
    pub weight: f64,
    /// How much more the reward of the last step weighs than that of each other: it stands for what comes after.
    pub terminal: f64,
    /// Cost of a metre between the drone and the setpoint, in rewards: what a square leaves of the last centimetres is lost in
    /// the noise.
    pub distance: f64,
    /// In half of the flights the setpoint jumps at the anchor, each coordinate by up to this, m.
    pub setpoint_jump_m: f64,
    /// Share of the flights in which the setpoint begins to move, or turns, shortly before the anchor or after it …
    pub moving: f64,
    /// … each coordinate by up to this, m/s (the vertical one a third of it).
    pub setpoint_speed_m_s: f64,
    /// Commands take up to so many control steps to the motors, drawn for each flight.
    pub latency_steps: usize,
    /// How far a flight's airframe is from the one that fits: a multiple of the guide's training's [`Variation`].
    pub variation: f64,
    /// Whether the model is corrected by what was flown.
    pub correction: ModelCorrection,
    /// Flights start in the newest so many recorded steps alone; 0: in all.
    pub recent_steps: usize,
    /// Control period, s.
    pub period_s: f64,
}

impl Default for FlightConfig {
    fn default() -> Self {
        Self {
            vehicles: Vec::new(),
            horizon: 50,
            flights: 32,
            weight: 1.0,
            terminal: 10.0,
            distance: 0.0,
            setpoint_jump_m: 0.2,
            moving: 0.0,
            setpoint_speed_m_s: 0.6,
            latency_steps: 0,
            variation: 0.0,
            correction: ModelCorrection::None,
            recent_steps: 0,
            period_s: 0.01,
        }
    }
}

/// Memory that is used again by the next update; no state.
#[derive(Debug, Default)]
pub struct Buffers {
    closed_loop: closed_loop::Buffers<f32>,
    gradients: Option<Gradients<f32>>,
    airframes: Vec<Airframe>,
    /// Of recorded episodes, by number; each depends on its episode alone.
    fits: BTreeMap<u64, Arc<Fit>>,
}

impl Buffers {
    /// The gradient that [`differentiate`] left.
    pub fn gradients(&self) -> Option<&Gradients<f32>> {
        self.gradients.as_ref()
    }

    /// Share of neurons that fired, all layers together.
    pub fn firing_rate(&self) -> f64 {
        let rates = self.closed_loop.firing_rates();
        rates.iter().sum::<f64>() / rates.len().max(1) as f64
    }

    /// Fits the episodes that anchors lie in and that were not fitted yet.
    fn fit(&mut self, anchors: &[Anchor<'_>], period_s: f64) {
        let mut missing: Vec<&Anchor<'_>> =
            anchors.iter().filter(|a| !self.fits.contains_key(&a.number)).collect();
        missing.sort_by_key(|a| a.number);
        missing.dedup_by_key(|a| a.number);
        let airframes = &self.airframes;
        let fitted: Vec<_> = missing
            .par_iter()
            .filter_map(|a| {
                let vehicles = airframes.iter().map(|airframe| &airframe.vehicle);
                Some((a.number, Arc::new(Fit::of(a.episode, vehicles, period_s)?)))
            })
            .collect();
        self.fits.extend(fitted);
        while self.fits.len() > FITS {
            self.fits.pop_first();
        }
    }
}

/// Fits that are kept, the newest: a plant each.
const FITS: usize = 4096;

#[derive(Debug)]
struct Airframe {
    vehicle: Vehicle,
    plant: Plant,
}

/// What the flights of an update came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlightStats {
    /// Mean reward of a step.
    pub reward: f64,
    /// Share of flights that were lost.
    pub lost: f64,
}

/// Flies from anchors drawn from the replay buffer and leaves the gradient of the loss in `buffers`. `None` while there
/// is nothing to start from.
///
/// # Errors
/// When the network refuses.
pub fn differentiate(
    config: &Config,
    actor: &Network<f32>,
    replay: &Replay,
    reward: &Reward,
    slope: f64,
    rng: &mut Xoshiro256PlusPlus,
    buffers: &mut Buffers,
) -> Result<Option<FlightStats>, TrainError> {
    let settings = &config.flight;
    if buffers.airframes.len() != settings.vehicles.len() {
        let airframe = |v: &Vehicle| Airframe { plant: Plant::new(v), vehicle: v.clone() };
        buffers.airframes = settings.vehicles.iter().map(airframe).collect();
    }
    let warm = config.warmup_steps;
    let anchors: Vec<Anchor<'_>> = (0..settings.flights)
        .filter_map(|_| Anchor::draw(replay, warm, settings.recent_steps, rng))
        .collect();
    if anchors.is_empty() || buffers.airframes.is_empty() {
        return Ok(None);
    }
    if settings.correction == ModelCorrection::Fitted {
        buffers.fit(&anchors, settings.period_s);
    }
    let models: Vec<Model<'_>> = anchors
        .par_iter()
        .map(|anchor| Model::of(anchor, &buffers.airframes, &buffers.fits, settings))
        .collect();
    let mut worlds: Vec<Flight<'_>> = anchors
        .iter()
        .zip(&models)
        .map(|(anchor, model)| Flight::start(anchor, model, config, reward, anchors.len()))
        .collect();
    let mut seen = Array3::zeros((warm, anchors.len(), OBSERVATION));
    for (i, (anchor, world)) in anchors.iter().zip(&mut worlds).enumerate() {
        for (t, o) in anchor.before(warm).iter().enumerate() {
            for (j, value) in world.recorded(o, warm - t).into_iter().enumerate() {
                seen[(t, i, j)] = value;
            }
        }
    }
    let options = BackwardOptions { surrogate: config.surrogate, ..BackwardOptions::new(slope as f32) };
    let gradients = buffers.gradients.get_or_insert_with(|| Gradients::zeros_like(actor));
    let (horizon, memory) = (settings.horizon, &mut buffers.closed_loop);
    actor.closed_loop(seen.view(), horizon, &mut worlds, &options, memory, gradients)?;
    let steps: f64 = worlds.iter().map(|w| w.flown() as f64).sum::<f64>().max(1.0);
    let n = worlds.len() as f64;
    Ok(Some(FlightStats {
        reward: worlds.iter().map(Flight::reward_sum).sum::<f64>() / steps,
        lost: worlds.iter().filter(|w| w.is_lost()).count() as f64 / n,
    }))
}

/// What a flight follows.
struct Model<'a> {
    vehicle: Cow<'a, Vehicle>,
    plant: Cow<'a, Plant>,
    residual: Option<&'a Residual>,
    /// Force and torque that act throughout, with a variation.
    disturbance: spikewing_quad::Disturbance,
    /// At the anchor.
    rotors: [f64; crate::replay::ACTION],
}

impl<'a> Model<'a> {
    fn of(
        anchor: &Anchor<'_>,
        airframes: &'a [Airframe],
        fits: &'a BTreeMap<u64, Arc<Fit>>,
        settings: &FlightConfig,
    ) -> Self {
        let period_s = settings.period_s;
        let fit =
            (settings.correction == ModelCorrection::Fitted).then(|| fits.get(&anchor.number)).flatten();
        let (vehicle, plant, residual) = match fit {
            Some(fit) => (&fit.vehicle, &fit.plant, Some(&fit.residual)),
            None => {
                let airframe = anchor.airframe(airframes, period_s);
                (&airframe.vehicle, &airframe.plant, None)
            }
        };
        let rotors = anchor.rotors(vehicle, period_s);
        let still = spikewing_quad::Disturbance::default();
        if settings.variation <= 0.0 {
            let (vehicle, plant) = (Cow::Borrowed(vehicle), Cow::Borrowed(plant));
            return Self { vehicle, plant, residual, disturbance: still, rotors };
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(anchor.seed.rotate_left(32));
        let airframe = Variation::default().times(settings.variation).draw(vehicle, &mut rng);
        let disturbance = if rng.random() { airframe.simulation.sample_disturbance(&mut rng) } else { still };
        let plant = Cow::Owned(Plant::new(&airframe));
        Self { plant, vehicle: Cow::Owned(airframe), residual, disturbance, rotors }
    }
}
