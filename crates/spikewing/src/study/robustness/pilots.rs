//! Who flies: the guides and the student.

use spikewing_guide_policy::geometric::Geometric;
use spikewing_quad::{
    Vehicle,
    protocol::{Evaluation, Summary, WarmStart},
};
use spikewing_rl::evaluate::SpikingPilot;
use spikewing_snn::{Network, policy::Model};

use crate::{
    Failure,
    eval::{self, Guide, WARMUP_STEPS},
};

/// A column of the table.
#[derive(Clone, Debug)]
pub enum Flyer {
    /// A guide, all the way.
    Guide(Guide),
    /// The student, after a guide's warm-up.
    Student(Guide, Box<Network<f32>>),
}

impl Flyer {
    /// As in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Guide(Guide::Geometric(_)) => "geometric",
            Self::Guide(Guide::Learned(_)) => "guide",
            Self::Student(..) => "student",
        }
    }

    /// Flies an evaluation; `done` is called after every episode.
    pub fn fly(&self, evaluation: &Evaluation, done: impl Fn()) -> Summary {
        Summary::of(&match self {
            Self::Guide(guide) => evaluation.run_noting(&mut guide.clone(), done),
            Self::Student(guide, network) => {
                let student = SpikingPilot::new(network);
                let mut pilot = WarmStart { guide: guide.clone(), student, steps: WARMUP_STEPS };
                evaluation.run_noting(&mut pilot, done)
            }
        })
    }
}

/// The pilots that know the nominal vehicle: the geometric controller, the learned guide unless `guide` is `geometric`,
/// and the student, whom that guide warms up.
///
/// # Errors
/// When a file is missing, damaged, or of the other kind of policy.
pub fn find(guide: &str, student: &str, nominal: &Vehicle) -> Result<Vec<Flyer>, Failure> {
    let geometric = Guide::Geometric(Box::new(Geometric::for_vehicle(nominal)));
    let warm_up = Guide::find(guide, nominal).map_err(|e| {
        format!(
            "{e}; name a file that `spikewing train guide` wrote, or `--guide geometric` to do without one"
        )
    })?;
    let policy = eval::load(student, nominal).map_err(|e| {
        format!("--student {e}; name a spiking policy, such as `spikewing train` writes, with --student FILE")
    })?;
    let Model::Spiking(network) = policy.model() else {
        return Err(format!(
            "--student {student}: this is a guide's network, without spikes; give it to --guide, and here a spiking \
             policy, such as `spikewing train` writes"
        )
        .into());
    };
    let learned = matches!(warm_up, Guide::Learned(_)).then(|| Flyer::Guide(warm_up.clone()));
    let student = Flyer::Student(warm_up, Box::new(network.clone()));
    Ok([Flyer::Guide(geometric)].into_iter().chain(learned).chain([student]).collect())
}
