//! The envelopes that ship, one for each vehicle that ships.

use std::path::Path;

use spikewing_runtime::{NodeOptions, Parameters, args, node::BuildError};

/// Vehicle, and the parameter file with its envelope.
const FILES: [(&str, &str); 3] = [
    ("crazyflie", include_str!("../../../params/envelopes/crazyflie.yaml")),
    ("x500", include_str!("../../../params/envelopes/x500.yaml")),
    ("sih_quadx", include_str!("../../../params/envelopes/sih_quadx.yaml")),
];

/// The supervisor's parameters with the envelope of a vehicle that ships; `None` for another one.
///
/// # Errors
/// When a file that ships is no parameter file, which is a defect of ours.
pub(crate) fn of(vehicle: &str) -> Result<Option<Parameters>, BuildError> {
    let Some((name, text)) = FILES.into_iter().find(|(name, _)| *name == vehicle) else { return Ok(None) };
    let mut options = NodeOptions::of(&crate::NODE);
    args::apply_text(&mut options, text, &Path::new("params/envelopes").join(name))?;
    Ok(Some(options.parameters))
}

/// The most careful of them, for a vehicle of which nothing is known.
pub(crate) const CAREFUL: &str = "x500";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_names_every_limit() {
        for (name, _) in FILES {
            let parameters = of(name).unwrap().unwrap();
            for limit in ["position", "tilt", "speed", "body_rate", "brake"] {
                let value = parameters.float(&format!("envelope.{limit}")).unwrap();
                assert!(value > 0.0, "{name}: {limit}");
            }
        }
        assert!(of("nobody").unwrap().is_none());
    }
}
