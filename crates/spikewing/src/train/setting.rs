//! In what world a student is trained: the plain one of params/train.yaml, or one that teaches it more.

use std::path::Path;

use clap::ValueEnum;
use spikewing_quad::Vehicle;
use spikewing_rl::checkpoint::write_atomically;

use crate::Failure;

/// File of the guide in a run folder that has one of its own.
pub const GUIDE_FILE: &str = "guide.safetensors";

/// What flights a training is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Setting {
    /// Several airframes, starts from any attitude, moving setpoints, the learned guide that ships (vehicles that have one)
    #[default]
    Robust,
    /// One airframe, mild starts, a setpoint at rest, the geometric guide
    Plain,
    /// `plain` with the paper's own settings of learning (params/published.yaml): needs 15,000 updates
    Published,
}

const PUBLISHED: &str = include_str!("../../../../params/published.yaml");
/// Updates of a new run.
const UPDATES: u64 = 8000;
/// Updates of a new run with the published settings, whose critics are slow.
pub const PUBLISHED_UPDATES: u64 = 15_000;

/// What the setting `robust` is for a vehicle.
#[derive(Clone, Copy, Debug)]
pub struct Robust {
    /// Parameters on top of params/train.yaml.
    pub parameters: &'static str,
    /// Where they are from, for messages.
    pub path: &'static str,
    guide: &'static [u8],
}

const CRAZYFLIE: Robust = Robust {
    parameters: include_str!("../../../../params/robust/crazyflie.yaml"),
    path: "params/robust/crazyflie.yaml",
    guide: include_bytes!("../../../../policies/crazyflie/guide.safetensors"),
};
const X500: Robust = Robust {
    parameters: include_str!("../../../../params/robust/x500.yaml"),
    path: "params/robust/x500.yaml",
    guide: include_bytes!("../../../../policies/x500/guide.safetensors"),
};

/// Vehicles for which a guide ships.
const SHIPPED: [(&str, Robust); 2] = [("crazyflie", CRAZYFLIE), ("x500", X500)];

impl Setting {
    /// What it adds for a vehicle; nothing for one that no guide ships for. A vehicle is known by name and content: another
    /// one of the same name has no guide.
    pub fn of(self, vehicle: &Vehicle) -> Option<Robust> {
        if self != Self::Robust || Vehicle::built_in(&vehicle.name)?.content() != vehicle.content() {
            return None;
        }
        SHIPPED.iter().find(|(name, _)| *name == vehicle.name).map(|(_, robust)| *robust)
    }

    /// Parameters of learning on top of params/train.yaml, whatever the vehicle, and where they are from.
    pub const fn of_learning(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Published => Some((PUBLISHED, "params/published.yaml")),
            Self::Robust | Self::Plain => None,
        }
    }

    /// Updates that a new run makes unless told otherwise.
    pub const fn updates(self) -> u64 {
        match self {
            Self::Published => PUBLISHED_UPDATES,
            Self::Robust | Self::Plain => UPDATES,
        }
    }
}

/// The learned guide that ships for a vehicle, or for the one that it is a model of, as a policy file.
pub fn shipped_guide(vehicle: &Vehicle) -> Option<&'static [u8]> {
    let fits = |name: &str, content: &str| {
        Vehicle::built_in(name).is_some_and(|built_in| built_in.content() == content)
    };
    vehicle.known_as().iter().filter(|(name, content)| fits(name, content)).find_map(|(name, _)| {
        SHIPPED.iter().find(|(shipped, _)| shipped == name).map(|(_, robust)| robust.guide)
    })
}

impl Robust {
    /// Puts the guide into the run folder, so that the run can go on from anywhere, whatever guides ship by then.
    pub fn write_guide(&self, dir: &Path) -> Result<String, Failure> {
        let path = dir.join(GUIDE_FILE);
        write_atomically(&path, self.guide).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path.display().to_string())
    }
}
