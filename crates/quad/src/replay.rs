//! Replays reference trajectories and says how far the dynamics are from them.
//!
//! Layout of an open-loop reference: `V.json` with its cases, `V_actions.csv` and `V_states.csv` beside it. A closed-loop
//! flight is a `trajN.csv` with its entry in the `meta.json` beside it, and carries rewards too.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use nalgebra::Vector3;
use serde::{Deserialize, Serialize};

use crate::{
    Disturbance, Reward, State, Vehicle,
    reward::{ActionScale, OrientationTerm},
    step,
};

/// Why a reference cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file has another layout.
    #[error("{path}: {reason}")]
    Layout {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The simulator is not known.
    #[error("{path}: variant `{variant}`: {source}")]
    Variant {
        /// File.
        path: PathBuf,
        /// As the file has it.
        variant: String,
        /// Why there is no such vehicle.
        source: Box<crate::QuadError>,
    },
}

impl ReplayError {
    fn layout(path: &Path, reason: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), reason: reason.into() }
    }
}

/// Largest absolute deviation of each part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Deviation {
    /// m
    pub position: f64,
    /// Of the quaternion's elements.
    pub orientation: f64,
    /// m/s
    pub velocity: f64,
    /// rad/s
    pub body_rates: f64,
    /// Relative to the rotors' range.
    pub rotors: f64,
    /// Largest of all.
    pub overall: f64,
}

impl Deviation {
    fn note(&mut self, vehicle: &Vehicle, state: &State, expected: &[f64; 17]) {
        let range = vehicle.rotor_range[1] - vehicle.rotor_range[0];
        for (i, (got, expected)) in state.to_columns().iter().zip(expected).enumerate() {
            let scale = if i < 13 { 1.0 } else { range };
            let error = ((got - expected) / scale).abs();
            // NaN must not hide: it is the largest deviation there is.
            let error = if error.is_nan() { f64::INFINITY } else { error };
            let part = match i {
                0..3 => &mut self.position,
                3..7 => &mut self.orientation,
                7..10 => &mut self.velocity,
                10..13 => &mut self.body_rates,
                _ => &mut self.rotors,
            };
            *part = part.max(error);
            self.overall = self.overall.max(error);
        }
    }
}

/// One replayed case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseReport {
    /// Simulator.
    pub variant: String,
    /// Name of the case, or file of the flight.
    pub case: String,
    /// Steps compared.
    pub steps: usize,
    /// How far off.
    pub max_abs_deviation: Deviation,
    /// For flights: deviation of each reward definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reward_max_abs_deviation: Vec<(String, f64)>,
}

#[derive(Deserialize)]
struct Reference {
    variant: String,
    dt: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    force: [f64; 3],
    torque: [f64; 3],
    initial_state: [f64; 17],
}

#[derive(Deserialize)]
struct Flight {
    file: String,
    variant: String,
    force: [f64; 3],
    torque: [f64; 3],
    initial_state: [f64; 17],
}

/// Replays `V.json` (open loop) or `trajN.csv` (a flight).
///
/// # Errors
/// When a file is missing or of another layout.
pub fn replay(path: &Path) -> Result<Vec<CaseReport>, ReplayError> {
    if path.extension().is_some_and(|e| e == "csv") { replay_flight(path) } else { replay_cases(path) }
}

fn replay_cases(path: &Path) -> Result<Vec<CaseReport>, ReplayError> {
    let reference: Reference = json(path)?;
    let stem = path.with_extension("");
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", stem.display()));
    let actions = Table::read(&beside("_actions.csv"))?;
    let states = Table::read(&beside("_states.csv"))?;
    let vehicle = vehicle(path, &reference.variant)?;
    let (a, s) = (actions.columns(&["a0"])?[0], states.columns(&["px"])?[0]);
    let mut reports = Vec::new();
    for (index, case) in reference.cases.iter().enumerate() {
        let of_case = |table: &Table| -> Vec<Vec<f64>> {
            table.rows.iter().filter(|row| row.first() == Some(&(index as f64))).cloned().collect()
        };
        let expected: HashMap<u64, Vec<f64>> =
            of_case(&states).into_iter().filter_map(|row| Some((row.get(1)?.to_bits(), row))).collect();
        let mut state = State::from_columns(&case.initial_state);
        let disturbance = disturbance(&case.force, &case.torque);
        let mut deviation = Deviation::default();
        let mut steps = 0;
        for (before, row) in of_case(&actions).iter().enumerate() {
            let number = row.get(1).copied().unwrap_or(f64::NAN);
            if number != (before + 1) as f64 {
                let reason = format!("case {index}: step {number} where {} was expected", before + 1);
                return Err(ReplayError::layout(&actions.path, reason));
            }
            state = step(&vehicle, &state, &take(&actions, row, a)?, &disturbance, reference.dt);
            if let Some(row_of_step) = expected.get(&number.to_bits()) {
                deviation.note(&vehicle, &state, &take(&states, row_of_step, s)?);
                steps += 1;
            }
        }
        if steps == 0 || steps < expected.len() {
            let reason = format!(
                "case {index} (`{}`): {} states, of which {steps} have their actions in {}",
                case.name,
                expected.len(),
                actions.path.display()
            );
            return Err(ReplayError::layout(&states.path, reason));
        }
        reports.push(CaseReport {
            variant: reference.variant.clone(),
            case: case.name.clone(),
            steps,
            max_abs_deviation: deviation,
            reward_max_abs_deviation: Vec::new(),
        });
    }
    Ok(reports)
}

/// The reward definitions that flights carry, by column.
pub fn reward_definitions() -> [(&'static str, Reward); 6] {
    let mut symmetric = Reward::start();
    symmetric.scale = ActionScale::Symmetric;
    let mut gym = Reward::authors_code();
    // The flights' column uses the rounded baseline of the environment's code.
    gym.coefficients.action_baseline = -0.332;
    [
        ("r_gym", gym),
        ("r_start_zsq_01", Reward::start()),
        ("r_end_zsq_01", Reward::end()),
        ("r_start_wquad_01", Reward::start().with_orientation(OrientationTerm::Full)),
        ("r_end_wquad_01", Reward::end().with_orientation(OrientationTerm::Full)),
        ("r_start_zsq_pm1", symmetric),
    ]
}

fn replay_flight(path: &Path) -> Result<Vec<CaseReport>, ReplayError> {
    let meta = path.with_file_name("meta.json");
    let flights: Vec<Flight> = json(&meta)?;
    let file = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let flight = flights
        .iter()
        .find(|f| f.file == file)
        .ok_or_else(|| ReplayError::layout(&meta, format!("no entry for {file}")))?;
    let table = Table::read(path)?;
    if table.rows.is_empty() {
        return Err(ReplayError::layout(path, "a flight without steps"));
    }
    let (a, p) = (table.columns(&["a0"])?[0], table.columns(&["px"])?[0]);
    let names: Vec<&str> = reward_definitions().iter().map(|(name, _)| *name).collect();
    let reward_columns = table.columns(&names)?;
    let vehicle = vehicle(&meta, &flight.variant)?;
    let disturbance = disturbance(&flight.force, &flight.torque);
    let mut state = State::from_columns(&flight.initial_state);
    let mut deviation = Deviation::default();
    let mut rewards = reward_definitions().map(|(name, _)| (name.to_owned(), 0.0_f64)).to_vec();
    for row in &table.rows {
        let action = take(&table, row, a)?;
        state = step(&vehicle, &state, &action, &disturbance, 0.01);
        let expected = take(&table, row, p)?;
        deviation.note(&vehicle, &state, &expected);
        // Rewards are judged on the flight's own state, so that they show their own error only.
        let there = State::from_columns(&expected);
        for ((worst, (_, definition)), &column) in
            rewards.iter_mut().zip(reward_definitions()).zip(&reward_columns)
        {
            let got = definition.of_state(&there, &Vector3::zeros(), &action);
            let error = (got - row.get(column).copied().unwrap_or(f64::NAN)).abs();
            worst.1 = worst.1.max(if error.is_nan() { f64::INFINITY } else { error });
        }
    }
    Ok(vec![CaseReport {
        variant: flight.variant.clone(),
        case: file,
        steps: table.rows.len(),
        max_abs_deviation: deviation,
        reward_max_abs_deviation: rewards,
    }])
}

fn vehicle(path: &Path, variant: &str) -> Result<Vehicle, ReplayError> {
    Vehicle::find(variant).map_err(|source| ReplayError::Variant {
        path: path.to_owned(),
        variant: variant.to_owned(),
        source: Box::new(source),
    })
}

fn disturbance(force: &[f64; 3], torque: &[f64; 3]) -> Disturbance {
    Disturbance { force_n: Vector3::from(*force), torque_n_m: Vector3::from(*torque) }
}

fn read(path: &Path) -> Result<String, ReplayError> {
    std::fs::read_to_string(path).map_err(|source| ReplayError::Io { path: path.to_owned(), source })
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ReplayError> {
    serde_json::from_str(&read(path)?).map_err(|e| ReplayError::layout(path, e.to_string()))
}

struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<Vec<f64>>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, ReplayError> {
        let text = read(path)?;
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default().split(',').map(|name| name.trim().to_owned()).collect();
        let mut rows = Vec::new();
        for (number, line) in lines.enumerate() {
            let row: Result<Vec<f64>, _> = line.split(',').map(|v| v.trim().parse()).collect();
            rows.push(row.map_err(|e| ReplayError::layout(path, format!("line {}: {e}", number + 2)))?);
        }
        Ok(Self { path: path.to_owned(), header, rows })
    }

    fn columns(&self, names: &[&str]) -> Result<Vec<usize>, ReplayError> {
        names
            .iter()
            .map(|name| {
                self.header
                    .iter()
                    .position(|h| h == name)
                    .ok_or_else(|| ReplayError::layout(&self.path, format!("no column `{name}`")))
            })
            .collect()
    }
}

fn take<const N: usize>(table: &Table, row: &[f64], from: usize) -> Result<[f64; N], ReplayError> {
    row.get(from..from + N)
        .and_then(|c| c.try_into().ok())
        .ok_or_else(|| ReplayError::layout(&table.path, format!("a row has {} columns, too few", row.len())))
}
