//! What a batch keeps of sixteen vehicles: numbers side by side for the registers, and the episodes' bookkeeping.

use nalgebra::Vector3;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::End;
use crate::{
    dynamics::Disturbance,
    episode::Episode,
    equations::{CARRIED, FIRST_CARRIED},
    lanes::{LANES, Pack, Scalar},
    model::{MODEL, Model},
    state::State,
    vehicle::{ROTORS, Vehicle},
};

/// States and disturbances: what every step reads and writes.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Block<T> {
    /// In the column order of the reference data.
    pub columns: [Pack<T>; 17],
    /// What rounding cut off body rates and rotors; nothing in double precision.
    pub carried: [Pack<T>; CARRIED],
    /// Force (world, N), then torque (body, N m).
    pub outside: [Pack<T>; 6],
}

impl<T: Scalar> Block<T> {
    /// Every lane in one state, undisturbed.
    pub fn filled(state: &State) -> Self {
        Self {
            columns: state.to_columns().map(|v| [T::of(v); LANES]),
            carried: [[T::default(); LANES]; CARRIED],
            outside: [[T::default(); LANES]; 6],
        }
    }

    pub fn state(&self, lane: usize) -> State {
        let mut columns = std::array::from_fn(|i| self.columns[i][lane].wide());
        for (column, rest) in columns[FIRST_CARRIED..].iter_mut().zip(&self.carried) {
            *column += rest[lane].wide();
        }
        State::from_columns(&columns)
    }

    pub fn set_state(&mut self, lane: usize, state: &State) {
        let columns = state.to_columns();
        for (pack, value) in self.columns.iter_mut().zip(columns) {
            pack[lane] = T::of(value);
        }
        for (rest, value) in self.carried.iter_mut().zip(&columns[FIRST_CARRIED..]) {
            rest[lane] = T::of(value - T::of(*value).wide());
        }
    }

    pub fn disturbance(&self, lane: usize) -> Disturbance {
        let at = |i: usize| self.outside[i][lane].wide();
        Disturbance {
            force_n: Vector3::new(at(0), at(1), at(2)),
            torque_n_m: Vector3::new(at(3), at(4), at(5)),
        }
    }

    pub fn set_disturbance(&mut self, lane: usize, disturbance: &Disturbance) {
        let numbers = disturbance.force_n.iter().chain(disturbance.torque_n_m.iter());
        for (pack, value) in self.outside.iter_mut().zip(numbers) {
            pack[lane] = T::of(*value);
        }
    }
}

/// Constants of sixteen vehicles that differ.
pub type Models<T> = [Pack<T>; MODEL];

/// Commands on their way to the motors of sixteen vehicles.
#[derive(Clone, Debug)]
struct Underway<T> {
    /// A ring of past commands per lane: element `step % ring` is the command of that step.
    commands: Vec<[[T; ROTORS]; LANES]>,
    steps: [usize; LANES],
}

impl<T: Scalar> Underway<T> {
    fn exchange(&mut self, now: usize, given: &[[T; ROTORS]; LANES]) -> [[T; ROTORS]; LANES] {
        let ring = self.commands.len();
        self.commands[now % ring] = *given;
        std::array::from_fn(|lane| self.commands[(now + ring - self.steps[lane]) % ring][lane])
    }
}

/// The episodes of sixteen vehicles: what only beginnings, ends and noise touch.
#[derive(Clone, Debug)]
pub struct Episodes<T> {
    /// Constants of these vehicles; none where all fly the nominal one.
    pub models: Option<Box<Models<T>>>,
    /// Number of the episode in each lane.
    pub numbers: [u64; LANES],
    /// Steps flown of it.
    pub lengths: [u32; LANES],
    /// Generators of noise.
    pub rngs: [Xoshiro256PlusPlus; LANES],
    underway: Option<Box<Underway<T>>>,
}

impl<T: Scalar> Episodes<T> {
    /// For episodes whose commands are at most `longest_delay` steps underway.
    pub fn new(longest_delay: usize) -> Self {
        let underway = (longest_delay > 0).then(|| {
            let commands = vec![[[T::default(); ROTORS]; LANES]; longest_delay + 1];
            Box::new(Underway { commands, steps: [0; LANES] })
        });
        Self {
            models: None,
            numbers: [0; LANES],
            lengths: [0; LANES],
            rngs: std::array::from_fn(|_| Xoshiro256PlusPlus::seed_from_u64(0)),
            underway,
        }
    }

    /// Begins an episode in a lane.
    pub fn begin(&mut self, lane: usize, number: u64, episode: &Episode<'_>, block: &mut Block<T>) {
        self.numbers[lane] = number;
        self.lengths[lane] = 0;
        self.rngs[lane] = episode.rng.clone();
        block.set_state(lane, &episode.state);
        block.set_disturbance(lane, &episode.disturbance);
        if let Some(underway) = &mut self.underway {
            underway.steps[lane] = episode.delay_steps.min(underway.commands.len() - 1);
            let before = episode.command_before().map(T::of);
            underway.commands.iter_mut().for_each(|step| step[lane] = before);
        }
    }

    /// Gives a lane constants of its own; `nominal` fills the others the first time.
    pub fn set_vehicle(&mut self, lane: usize, vehicle: &Vehicle, nominal: &Vehicle) {
        let models = self.models.get_or_insert_with(|| {
            Box::new(Model::of(nominal).numbers().map(|number| [T::of(number); LANES]))
        });
        for (pack, number) in models.iter_mut().zip(Model::of(vehicle).numbers()) {
            pack[lane] = T::of(number);
        }
    }

    /// The commands that arrive at the motors when `commands` are given at step `now` of the batch; none where all arrive
    /// at once.
    #[inline(always)]
    pub fn arriving(&mut self, now: usize, commands: &[[T; ROTORS]; LANES]) -> Option<[[T; ROTORS]; LANES]> {
        self.underway.as_mut().map(|underway| underway.exchange(now, commands))
    }

    /// Counts a step; says which episodes ended by it.
    pub fn count(&mut self, finished: &Pack<T>, steps: u32, ends: &mut [End; LANES]) {
        let going = T::default();
        for ((end, length), finished) in ends.iter_mut().zip(&mut self.lengths).zip(finished) {
            *length += 1;
            *end = match (*finished == going, *length >= steps) {
                (true, false) => End::Going,
                (true, true) => End::Truncated,
                (false, _) => End::Terminated,
            };
        }
    }
}
