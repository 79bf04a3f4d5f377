//! What training did inside the networks: `layers.csv` of the runs, averaged over the beginning, the middle and the end.

use std::{fmt::Write, path::Path};

use super::arms::Arm;

/// One look at one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    updates: f64,
    layer: usize,
    firing_rate: Option<f64>,
    gradient_norm: f64,
    cosine: Option<f64>,
}

/// The looks of a run; those that cannot be read are left out.
pub fn read(dir: &Path) -> Vec<Look> {
    let text = std::fs::read_to_string(dir.join("layers.csv")).unwrap_or_default();
    let look = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |i: usize| cells.get(i).and_then(|c| c.parse::<f64>().ok());
        Some(Look {
            updates: number(0)?,
            layer: cells.get(1)?.parse().ok()?,
            firing_rate: number(2),
            gradient_norm: number(3)?,
            cosine: number(4),
        })
    };
    text.lines().skip(1).filter_map(look).collect()
}

/// A row per arm and layer, with the mean over seeds in each third of the training.
pub fn table(arms: &[Arm], runs: &[(&'static str, Vec<Look>)]) -> String {
    let mut text = "What the layers did, in the first, second and last third of the training: share of neurons that fire, norm of \
                    the gradient, and its cosine to the gradient of slope 100, which stands for the true one.\n\n\
                    | arm | layer | firing rate | gradient norm | cosine to slope 100 |\n|---|---|---|---|---|\n"
        .to_owned();
    for arm in arms {
        let of_arm: Vec<&Look> =
            runs.iter().filter(|(name, _)| *name == arm.name).flat_map(|(_, l)| l).collect();
        let last = of_arm.iter().map(|l| l.updates).fold(0.0, f64::max);
        let layers = of_arm.iter().map(|l| l.layer + 1).max().unwrap_or(0);
        for layer in 0..layers {
            let thirds = |value: fn(&Look) -> Option<f64>, scientific: bool| {
                let third = |part: usize| {
                    let within = |l: &&&Look| {
                        l.layer == layer && ((3.0 * l.updates / last).ceil() as usize).clamp(1, 3) == part
                    };
                    let values: Vec<f64> = of_arm.iter().filter(within).filter_map(|l| value(l)).collect();
                    match values.iter().sum::<f64>() / values.len() as f64 {
                        mean if !mean.is_finite() => "–".to_owned(),
                        mean if scientific => format!("{mean:.1e}"),
                        mean => format!("{mean:.2}"),
                    }
                };
                [1, 2, 3].map(third).join(", ")
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                arm.name,
                layer + 1,
                thirds(|l| l.firing_rate, false),
                thirds(|l| Some(l.gradient_norm), true),
                thirds(|l| l.cosine, false),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_of_a_training_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let text = "updates,layer,firing_rate,gradient_norm,cosine_to_steepest\n\
                    10,0,0.1,0.5,1\n10,1,,0.25,\n20,0,0.2,0.5,0.5\n20,1,,0.25,0.75\n30,0,0.3,5,0\n30,1,,1,0.5\n40,0";
        std::fs::write(dir.path().join("layers.csv"), text).unwrap();
        let looks = read(dir.path());
        assert_eq!(looks.len(), 6);
        let arms = super::super::arms::ablation(3000).arms;
        let table = table(&arms, &[("both", looks)]);
        for row in [
            "| `both` | 1 | 0.10, 0.20, 0.30 | 5.0e-1, 5.0e-1, 5.0e0 | 1.00, 0.50, 0.00 |",
            "| `both` | 2 | –, –, – | 2.5e-1, 2.5e-1, 1.0e0 | –, 0.75, 0.50 |",
        ] {
            assert!(table.contains(row), "{table}");
        }
    }
}
