//! What a policy file says about itself.

use super::{FORMAT_VERSION, PolicyError};
use std::collections::BTreeMap;

/// What the spiking student observes, 18 numbers.
pub const OBSERVATION_STUDENT: &str =
    "position_error_world[3],rotation_matrix_row_major[9],linear_velocity_world[3],angular_velocity_body[3]";

/// What the guide observes, 146 numbers: the student's 18 and the last 32 actions.
pub const OBSERVATION_GUIDE: &str = "position_error_world[3],rotation_matrix_row_major[9],linear_velocity_world[3],\
                                     angular_velocity_body[3],action_history_oldest_first[32x4]";

/// What both command: motors normalised to [−1, 1].
pub const ACTION: &str = "motors[front_right,rear_right,rear_left,front_left] in [-1,1]";

/// Which network a policy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A spiking network.
    Spiking,
    /// A feed-forward network.
    Mlp,
}

impl Kind {
    /// As written in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spiking => "spiking",
            Self::Mlp => "mlp",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, PolicyError> {
        match name {
            "spiking" => Ok(Self::Spiking),
            "mlp" => Ok(Self::Mlp),
            other => Err(bad("kind", other, "it must be `spiking` or `mlp`")),
        }
    }
}

/// Where a policy came from and what it is for. Kind, shape, self-test and signature follow from the policy itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Airframe it was trained for, as in `params/vehicles/`.
    pub vehicle: String,
    /// What that airframe is, field by field (see [`super::Airframe`]); policies of before it was noted have none.
    pub vehicle_content: Option<String>,
    /// What it observes; [`OBSERVATION_STUDENT`] or [`OBSERVATION_GUIDE`].
    pub observation: String,
    /// What it commands; [`ACTION`].
    pub action: String,
    /// Control rate it was trained for, in Hz.
    pub control_rate_hz: f64,
    /// Identifier of the training run.
    pub training_run: Option<String>,
    /// Mean return when it was saved.
    pub return_mean: Option<f64>,
    /// Surrogate slope k when it was saved.
    pub slope: Option<f64>,
    /// Revision of the program that made it.
    pub git_revision: Option<String>,
    /// Anything else, kept as it is. Keys used by the format itself are not written from here.
    pub extra: BTreeMap<String, String>,
}

impl Metadata {
    /// For a student at 100 Hz on `vehicle`.
    pub fn student(vehicle: impl Into<String>) -> Self {
        Self::new(vehicle.into(), OBSERVATION_STUDENT)
    }

    /// For a guide at 100 Hz on `vehicle`.
    pub fn guide(vehicle: impl Into<String>) -> Self {
        Self::new(vehicle.into(), OBSERVATION_GUIDE)
    }

    fn new(vehicle: String, observation: &str) -> Self {
        Self {
            vehicle,
            vehicle_content: None,
            observation: observation.to_owned(),
            action: ACTION.to_owned(),
            control_rate_hz: 100.0,
            training_run: None,
            return_mean: None,
            slope: None,
            git_revision: None,
            extra: BTreeMap::new(),
        }
    }

    /// As written in files, with what follows from the policy.
    pub(super) fn to_map(&self, kind: Kind, widths: &[usize]) -> BTreeMap<String, String> {
        let mut map = self.extra.clone();
        for key in KEYS {
            map.remove(key);
        }
        let mut put = |key: &str, value: String| map.insert(key.to_owned(), value);
        put("format_version", FORMAT_VERSION.to_owned());
        put("kind", kind.name().to_owned());
        put("shape", widths.iter().map(ToString::to_string).collect::<Vec<_>>().join("-"));
        put("vehicle", self.vehicle.clone());
        if let Some(content) = &self.vehicle_content {
            put("vehicle_sha256", super::content_sha256(content));
            put("vehicle_content", content.clone());
        }
        put("observation", self.observation.clone());
        put("action", self.action.clone());
        // Rust prints the shortest text that reads back to the same number.
        put("control_rate_hz", self.control_rate_hz.to_string());
        let numbers = [("return_mean", self.return_mean), ("slope", self.slope)];
        for (key, value) in numbers {
            // Not yet evaluated is not a number; a file says so by saying nothing.
            value.filter(|v| v.is_finite()).and_then(|v| put(key, v.to_string()));
        }
        for (key, value) in [("training_run", &self.training_run), ("git_revision", &self.git_revision)] {
            value.clone().and_then(|v| put(key, v));
        }
        map
    }

    /// Reads what [`Metadata::to_map`] wrote; kind and widths come back beside it.
    pub(super) fn from_map(
        mut map: BTreeMap<String, String>,
    ) -> Result<(Self, Kind, Vec<usize>), PolicyError> {
        let version = take(&mut map, "format_version")?;
        if version != FORMAT_VERSION {
            return Err(PolicyError::Version { expected: FORMAT_VERSION, got: short(&version) });
        }
        let kind = Kind::parse(&take(&mut map, "kind")?)?;
        let widths = parse_shape(&take(&mut map, "shape")?)?;
        let vehicle = take(&mut map, "vehicle")?;
        let vehicle_content = map.remove("vehicle_content");
        let announced = map.remove("vehicle_sha256");
        if announced != vehicle_content.as_deref().map(super::content_sha256) {
            let reason = "it is not the sha256 of vehicle_content";
            return Err(bad("vehicle_sha256", announced.as_deref().unwrap_or(""), reason));
        }
        let observation = take(&mut map, "observation")?;
        let action = take(&mut map, "action")?;
        let control_rate_hz = parse_number("control_rate_hz", &take(&mut map, "control_rate_hz")?)?;
        if control_rate_hz <= 0.0 {
            let reason = "the control rate must be above zero";
            return Err(bad("control_rate_hz", &control_rate_hz.to_string(), reason));
        }
        let mut number = |key| map.remove(key).map(|value| parse_number(key, &value)).transpose();
        let (return_mean, slope) = (number("return_mean")?, number("slope")?);
        let (training_run, git_revision) = (map.remove("training_run"), map.remove("git_revision"));
        let metadata = Self {
            vehicle,
            vehicle_content,
            observation,
            action,
            control_rate_hz,
            training_run,
            return_mean,
            slope,
            git_revision,
            extra: map,
        };
        Ok((metadata, kind, widths))
    }
}

/// Keys the format uses.
const KEYS: [&str; 15] = [
    "format_version",
    "kind",
    "shape",
    "vehicle",
    "vehicle_sha256",
    "vehicle_content",
    "observation",
    "action",
    "control_rate_hz",
    "training_run",
    "return_mean",
    "slope",
    "git_revision",
    "signer",
    "signature",
];

fn take(map: &mut BTreeMap<String, String>, key: &'static str) -> Result<String, PolicyError> {
    map.remove(key).ok_or(PolicyError::MissingMetadata { key })
}

fn parse_number(key: &str, value: &str) -> Result<f64, PolicyError> {
    let number: Option<f64> = value.parse().ok();
    number.filter(|x| x.is_finite()).ok_or_else(|| bad(key, value, "it must be a finite number"))
}

fn parse_shape(value: &str) -> Result<Vec<usize>, PolicyError> {
    let widths: Option<Vec<usize>> = value.split('-').map(|w| w.parse().ok()).collect();
    widths.filter(|w| (2..=17).contains(&w.len()) && w.iter().all(|n| (1..=65_536).contains(n))).ok_or_else(
        || bad("shape", value, "it must be 2 to 17 widths of 1 to 65536 joined by `-`, as in 18-256-128-4"),
    )
}

pub(super) fn bad(key: &str, value: &str, reason: &'static str) -> PolicyError {
    PolicyError::BadMetadata { key: short(key), value: short(value), reason }
}

/// Keeps a hostile value from filling the log.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 80 {
        text.to_owned()
    } else {
        text.chars().take(77).chain("...".chars()).collect()
    }
}
