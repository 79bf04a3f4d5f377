//! The filter over time: a short history of what arrived, so that a message that comes late is used where it belongs
//! and everything after it is computed again; gates; and starting over.

use std::collections::VecDeque;

use nalgebra::{Matrix3, SMatrix, Vector3};
use spikewing_runtime::{Span, Time};

use crate::{
    estimate::{Covariance, Estimate, Gate, ImuSample, Jacobian, ProcessNoise, index},
    measurement::{Measurement, Source},
};

/// Entries kept at most, whatever their rate: bounds memory and the work that one late message can cause.
const LONGEST_HISTORY: usize = 512;

/// How the filter is set up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Process noise.
    pub noise: ProcessNoise,
    /// Gate on the squared Mahalanobis distance of a block of three.
    pub gate_squared: f64,
    /// Rejected measurements in a row, of one source, after which the filter starts over from the next.
    pub rejections_before_reset: u32,
    /// Distance between measured and expected position at which the filter starts over at once; `None`: never.
    pub jump_m: Option<f64>,
    /// How late a message may be.
    pub history: Span,
    /// Time without a measurement after which the next one starts the filter anew.
    pub max_dead_reckoning: Span,
    /// Standard deviation of the biases at the start, accelerometer (m/s²) and gyroscope (rad/s).
    pub bias_deviations: [f64; 2],
    /// Standard deviation of the velocity at a start from a pose alone, m/s.
    pub start_velocity_deviation: f64,
}

/// What the filter did with a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It was used, all of it or what passed the gates.
    Used(Gates),
    /// The filter started from it.
    Started(Start),
    /// It is older than the history reaches back.
    TooLate,
}

/// Why the filter started from a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first one, or the first after a reset.
    First,
    /// The vehicle jumped.
    Jump,
    /// Too many in a row did not fit.
    Disagreement,
    /// None came for too long.
    Gap,
}

/// What the gates said of each block; `None`: not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gates {
    /// Position.
    pub position: Option<Gate>,
    /// Orientation.
    pub orientation: Option<Gate>,
    /// Velocity.
    pub velocity: Option<Gate>,
    /// Innovations of position, orientation and velocity, in this order; zero where not measured.
    pub innovations: [Vector3<f64>; 3],
    /// Their squared Mahalanobis distances: chi-squared with three degrees of freedom each when all is well.
    pub distances: [f64; 3],
}

impl Gates {
    /// The rejected blocks, for people.
    pub fn rejected_names(&self) -> String {
        let names =
            [("position", self.position), ("orientation", self.orientation), ("velocity", self.velocity)];
        let rejected: Vec<&str> =
            names.iter().filter(|(_, gate)| *gate == Some(Gate::Rejected)).map(|(name, _)| *name).collect();
        format!("a measured {}", rejected.join(" and "))
    }

    /// Blocks that were rejected.
    pub fn rejected(&self) -> usize {
        [self.position, self.orientation, self.velocity]
            .iter()
            .filter(|g| **g == Some(Gate::Rejected))
            .count()
    }
}

// Both kinds lie in the history's own memory, beside an estimate that is larger than either: nothing to box.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug)]
enum Event {
    Imu(ImuSample),
    Measurement(Measurement),
}

impl Event {
    /// At one stamp IMU samples go first: they describe the time before it.
    fn order(&self) -> (Time, u8) {
        match self {
            Self::Imu(sample) => (sample.stamp, 0),
            Self::Measurement(measurement) => (measurement.stamp, 1),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    event: Event,
    /// What the filter believed after the event.
    after: Estimate,
}

/// The filter.
#[derive(Clone, Debug)]
pub struct Filter {
    options: Options,
    /// Belief before the first entry of the history; `None`: not started.
    base: Option<Estimate>,
    history: VecDeque<Entry>,
    /// Newest IMU sample that has left the history, or came before the filter was started.
    past_imu: Option<ImuSample>,
    last_measurement: Option<Time>,
    rejected_in_a_row: [u32; 2],
    /// Biases (accelerometer, gyroscope) learnt before a change of the clock, and their covariance.
    kept: Option<Biases>,
}

#[derive(Clone, Copy, Debug)]
struct Biases {
    accel: Vector3<f64>,
    gyro: Vector3<f64>,
    covariance: SMatrix<f64, 6, 6>,
}

impl Biases {
    fn of(estimate: &Estimate) -> Self {
        Self {
            accel: estimate.accel_bias,
            gyro: estimate.gyro_bias,
            covariance: estimate
                .covariance
                .fixed_view::<6, 6>(index::ACCEL_BIAS, index::ACCEL_BIAS)
                .into_owned(),
        }
    }
}

impl Filter {
    /// Not started: the first measurement starts it.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            base: None,
            history: VecDeque::with_capacity(LONGEST_HISTORY + 1),
            past_imu: None,
            last_measurement: None,
            rejected_in_a_row: [0; 2],
            kept: None,
        }
    }

    /// Forgets everything but the biases: time goes on elsewhere.
    pub fn restart(&mut self) {
        let kept = self.biases();
        self.reset();
        self.kept = kept;
    }

    fn biases(&self) -> Option<Biases> {
        self.latest().filter(|estimate| estimate.is_finite()).map(Biases::of).or(self.kept)
    }

    /// Forgets everything, the biases too.
    pub fn reset(&mut self) {
        *self = Self::new(self.options);
    }

    /// The newest belief. `None`: not started.
    pub fn latest(&self) -> Option<&Estimate> {
        self.history.back().map(|entry| &entry.after).or(self.base.as_ref())
    }

    /// The belief at a time, from what is known now: within the history from what came up to then, after it predicted.
    /// Before the history, the oldest belief.
    pub fn at(&self, time: Time) -> Option<Estimate> {
        let index = self.history.partition_point(|entry| entry.event.order().0 <= time);
        let mut estimate = self.before(index)?.clone();
        estimate.advance(time, self.imu_for(index).as_ref(), &self.options.noise);
        Some(estimate)
    }

    /// Takes an IMU sample. `false`: it is older than the history, or at a stamp already known, and was not used.
    pub fn imu(&mut self, sample: ImuSample) -> bool {
        let newer_than_past = self.past_imu.is_none_or(|past| sample.stamp > past.stamp);
        match &self.base {
            // Not started: only the newest sample is of use, to hold it over the first interval.
            None => {
                if newer_than_past {
                    self.past_imu = Some(sample);
                }
                newer_than_past
            }
            Some(base) if sample.stamp <= base.stamp => {
                if newer_than_past {
                    self.past_imu = Some(sample);
                }
                false
            }
            Some(_) => {
                let first = self.history.partition_point(|entry| entry.event.order() < (sample.stamp, 0));
                let known =
                    self.history.get(first).is_some_and(|entry| entry.event.order() == (sample.stamp, 0));
                // Blind integration for longer than anyone will hear of it would only pile up errors.
                let blind =
                    self.last_measurement.is_some_and(|m| sample.stamp - m > self.options.max_dead_reckoning);
                if known || blind {
                    return false;
                }
                self.insert(Event::Imu(sample));
                true
            }
        }
    }

    /// Takes a measurement.
    pub fn measurement(&mut self, measurement: &Measurement) -> Outcome {
        let Some(base) = &self.base else { return self.start(measurement, Start::First) };
        if measurement.stamp < base.stamp {
            return Outcome::TooLate;
        }
        if self
            .last_measurement
            .is_some_and(|last| measurement.stamp - last > self.options.max_dead_reckoning)
        {
            return self.start(measurement, Start::Gap);
        }
        if let (Some(jump), Some(expected)) = (self.options.jump_m, self.at(measurement.stamp))
            && (measurement.position.value - expected.position).norm() > jump
        {
            return self.start(measurement, Start::Jump);
        }
        let gates = self.insert(Event::Measurement(*measurement));
        self.last_measurement = self.last_measurement.max(Some(measurement.stamp));
        let count = &mut self.rejected_in_a_row[measurement.source as usize];
        *count = if gates.rejected() > 0 { *count + 1 } else { 0 };
        if *count >= self.options.rejections_before_reset {
            return self.start(measurement, Start::Disagreement);
        }
        Outcome::Used(gates)
    }

    /// Starts from a measurement. Biases already learnt are kept.
    fn start(&mut self, measurement: &Measurement, why: Start) -> Outcome {
        let mut covariance = Covariance::zeros();
        let mut put = |at: usize, block: &Matrix3<f64>| {
            covariance.fixed_view_mut::<3, 3>(at, at).copy_from(block);
        };
        let rotation = measurement.orientation.value.to_rotation_matrix().into_inner();
        put(index::POSITION, &measurement.position.covariance);
        put(index::ORIENTATION, &measurement.orientation.covariance);
        let velocity = match &measurement.velocity {
            Some(block) => {
                put(index::VELOCITY, &(rotation * block.covariance * rotation.transpose()));
                rotation * block.value
            }
            None => {
                put(index::VELOCITY, &(Matrix3::identity() * self.options.start_velocity_deviation.powi(2)));
                Vector3::zeros()
            }
        };
        let [accel, gyro] = self.options.bias_deviations;
        put(index::ACCEL_BIAS, &(Matrix3::identity() * accel * accel));
        put(index::GYRO_BIAS, &(Matrix3::identity() * gyro * gyro));
        let mut estimate = Estimate {
            stamp: measurement.stamp,
            position: measurement.position.value,
            velocity,
            orientation: measurement.orientation.value,
            accel_bias: Vector3::zeros(),
            gyro_bias: Vector3::zeros(),
            covariance,
            rates: Vector3::zeros(),
            rate_variance: 1.0,
        };
        if let Some(old) = self.biases() {
            estimate.accel_bias = old.accel;
            estimate.gyro_bias = old.gyro;
            estimate
                .covariance
                .fixed_view_mut::<6, 6>(index::ACCEL_BIAS, index::ACCEL_BIAS)
                .copy_from(&old.covariance);
        }
        if let Some(sample) = self.imu_for(self.history.len()) {
            estimate
                .measure_rates(&(sample.rates - estimate.gyro_bias), self.options.noise.gyro_sample.powi(2));
            self.past_imu = Some(sample);
        }
        if let Some((rates, variance)) = measurement.rates {
            estimate.measure_rates(&rates, variance);
        }
        self.history.clear();
        self.base = Some(estimate);
        self.last_measurement = Some(measurement.stamp);
        self.rejected_in_a_row = [0; 2];
        Outcome::Started(why)
    }

    /// Puts an event where its stamp belongs and computes again from there.
    fn insert(&mut self, event: Event) -> Gates {
        let at = self.history.partition_point(|entry| entry.event.order() <= event.order());
        let Some(before) = self.before(at).cloned() else { return Gates::default() };
        self.history.insert(at, Entry { event, after: before });
        let mut own = Gates::default();
        for i in at..self.history.len() {
            let gates = self.compute(i);
            if i == at {
                own = gates;
            }
        }
        self.shorten();
        own
    }

    /// Belief before entry `index`.
    fn before(&self, index: usize) -> Option<&Estimate> {
        match index.checked_sub(1).and_then(|i| self.history.get(i)) {
            Some(entry) => Some(&entry.after),
            None => self.base.as_ref(),
        }
    }

    /// The IMU sample for the time just before entry `index`: the next one, which describes it; else the last one.
    fn imu_for(&self, index: usize) -> Option<ImuSample> {
        let sample = |entry: &Entry| match entry.event {
            Event::Imu(sample) => Some(sample),
            Event::Measurement(_) => None,
        };
        let next = self.history.iter().skip(index).find_map(sample);
        next.or_else(|| self.history.iter().take(index).rev().find_map(sample)).or(self.past_imu)
    }

    fn compute(&mut self, index: usize) -> Gates {
        let Some(mut estimate) = self.before(index).cloned() else { return Gates::default() };
        let imu = self.imu_for(index);
        let Some(entry) = self.history.get(index) else { return Gates::default() };
        let event = entry.event;
        estimate.advance(event.order().0, imu.as_ref(), &self.options.noise);
        let gates = match &event {
            Event::Imu(sample) => {
                let rates = sample.rates - estimate.gyro_bias;
                estimate.measure_rates(&rates, self.options.noise.gyro_sample.powi(2));
                Gates::default()
            }
            Event::Measurement(measurement) => correct(&mut estimate, measurement, self.options.gate_squared),
        };
        if let Some(entry) = self.history.get_mut(index) {
            entry.after = estimate;
        }
        gates
    }

    /// Drops what is older than the history may reach back.
    fn shorten(&mut self) {
        let Some(newest) = self.history.back().map(|entry| entry.after.stamp) else { return };
        let oldest = newest - self.options.history;
        while self.history.len() > LONGEST_HISTORY
            || (self.history.len() > 1
                && self.history.front().is_some_and(|entry| entry.after.stamp < oldest))
        {
            let Some(entry) = self.history.pop_front() else { return };
            if let Event::Imu(sample) = entry.event {
                self.past_imu = Some(sample);
            }
            self.base = Some(entry.after);
        }
    }

    /// Newest measurement used.
    pub fn last_measurement(&self) -> Option<Time> {
        self.last_measurement
    }

    /// Rejected measurements in a row, the worse of the sources.
    pub fn rejected_in_a_row(&self, source: Source) -> u32 {
        self.rejected_in_a_row[source as usize]
    }
}

/// Uses the blocks of a measurement one after the other, each behind its own gate.
fn correct(estimate: &mut Estimate, measurement: &Measurement, gate_squared: f64) -> Gates {
    let identity = Matrix3::identity();
    let mut gates = Gates::default();

    let mut h = Jacobian::zeros();
    h.fixed_view_mut::<3, 3>(0, index::POSITION).copy_from(&identity);
    let innovation = measurement.position.value - estimate.position;
    let mut used = |i: usize,
                    estimate: &mut Estimate,
                    innovation,
                    h: &Jacobian,
                    [covariance, allowed]: [&Matrix3<f64>; 2]| {
        gates.innovations[i] = innovation;
        let distance = estimate.distance(&innovation, h, covariance);
        gates.distances[i] = distance.unwrap_or(f64::INFINITY);
        let gated = estimate.distance(&innovation, h, &(covariance + allowed));
        let passes = distance.is_some() && gated.is_some_and(|d| d <= gate_squared);
        Some(if passes { estimate.fuse(&innovation, h, covariance) } else { Gate::Rejected })
    };
    let position =
        used(0, estimate, innovation, &h, [&measurement.position.covariance, &measurement.position.allowed]);

    let mut h = Jacobian::zeros();
    h.fixed_view_mut::<3, 3>(0, index::ORIENTATION).copy_from(&identity);
    let innovation = (estimate.orientation.inverse() * measurement.orientation.value).scaled_axis();
    let orientation = used(
        1,
        estimate,
        innovation,
        &h,
        [&measurement.orientation.covariance, &measurement.orientation.allowed],
    );

    let velocity = measurement.velocity.as_ref().and_then(|velocity| {
        // Body velocity Rᵀv; with R = R̂ exp(δθ) its derivative by δθ is [Rᵀv]×.
        let to_body = estimate.orientation.inverse().to_rotation_matrix().into_inner();
        let expected = to_body * estimate.velocity;
        let mut h = Jacobian::zeros();
        h.fixed_view_mut::<3, 3>(0, index::VELOCITY).copy_from(&to_body);
        h.fixed_view_mut::<3, 3>(0, index::ORIENTATION).copy_from(&expected.cross_matrix());
        used(2, estimate, velocity.value - expected, &h, [&velocity.covariance, &velocity.allowed])
    });
    if let Some((rates, variance)) = measurement.rates {
        estimate.measure_rates(&rates, variance);
    }
    Gates { position, orientation, velocity, ..gates }
}
