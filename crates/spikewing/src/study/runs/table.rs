//! What the runs of a comparison say together: mean ± standard deviation over seeds, beside what was published.

use std::fmt::Write;

use super::{
    arms::{Arm, Comparison},
    curve,
    execute::{Run, RunResult},
};
use crate::study::plot::{Axis, Colours, Figure, Panel, Point, Series};

/// Points of a learning curve.
const CURVE_POINTS: u64 = 20;

/// The finished runs of a comparison.
pub struct Tables<'a> {
    comparison: &'a Comparison,
    finished: Vec<(&'a Run, RunResult)>,
}

/// Mean and standard deviation of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    mean: f64,
    deviation: f64,
    n: usize,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        Some(Self { mean, deviation, n })
    }

    fn text(self, decimals: usize) -> String {
        format!("{:.decimals$} ± {:.decimals$}", self.mean, self.deviation)
    }
}

impl<'a> Tables<'a> {
    /// Of the runs that are finished.
    pub fn of(comparison: &'a Comparison, runs: &'a [Run]) -> Self {
        let finished = runs.iter().filter_map(|run| Some((run, run.result()?))).collect();
        Self { comparison, finished }
    }

    fn of_arm(&self, arm: &Arm) -> impl Iterator<Item = &(&'a Run, RunResult)> {
        let name = arm.name;
        self.finished.iter().filter(move |(run, _)| run.arm.name == name)
    }

    fn spread(&self, arm: &Arm, value: impl Fn(&RunResult) -> Option<f64>) -> Option<Spread> {
        Spread::of(&self.of_arm(arm).filter_map(|(_, r)| value(r)).collect::<Vec<_>>())
    }

    /// Every run, a line each.
    pub fn runs_csv(&self) -> String {
        let mut text =
            "arm,seed,updates,return_start,return_end,completed_share,xy_error_m,activation_sparsity,\
                        steps_to_100,updates_to_100,wall_s\n"
                .to_owned();
        let optional = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
        for (run, r) in &self.finished {
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{},{},{},{},{}",
                run.arm.name,
                run.seed,
                r.updates,
                r.return_start,
                r.return_end,
                r.completed_share,
                r.xy_error_m,
                r.activation_sparsity,
                optional(r.steps_to_100),
                optional(r.updates_to_100),
                r.wall_s
            );
        }
        text
    }

    /// Every arm, a line each.
    pub fn csv(&self) -> String {
        let mut text =
            "arm,runs,return_start,return_start_std,return_end,return_end_std,activation_sparsity,\
                        reached_100,updates_to_100,updates_to_100_std,steps_to_100,steps_to_100_std,\
                        published_return,published_steps_to_100\n"
                .to_owned();
        for arm in &self.comparison.arms {
            let Some(start) = self.spread(arm, |r| Some(r.return_start)) else { continue };
            let pair = |s: Option<Spread>| {
                s.map_or_else(|| ",".to_owned(), |s| format!("{},{}", s.mean, s.deviation))
            };
            let reached = self.spread(arm, |r| r.updates_to_100);
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{},{},\"{}\",\"{}\"",
                arm.name,
                start.n,
                pair(Some(start)),
                pair(self.spread(arm, |r| Some(r.return_end))),
                self.spread(arm, |r| Some(r.activation_sparsity)).map_or(0.0, |s| s.mean),
                reached.map_or(0, |s| s.n),
                pair(reached),
                pair(self.spread(arm, |r| r.steps_to_100)),
                arm.published_return,
                arm.published_steps
            );
        }
        text
    }

    /// The table for people.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.comparison.title)
            + "| arm | | runs | return, start coefficients | return, end coefficients | environment steps to a return \
               of 100 | published return | published steps to 100 |\n|---|---|---|---|---|---|---|---|\n";
        for arm in &self.comparison.arms {
            let shown = |s: Option<Spread>| s.map_or_else(|| "–".to_owned(), |s| s.text(1));
            let start = self.spread(arm, |r| Some(r.return_start));
            let runs = start.map_or(0, |s| s.n);
            let steps = self.spread(arm, |r| r.steps_to_100);
            let steps = match steps {
                _ if runs == 0 => "–".to_owned(),
                None => "never".to_owned(),
                Some(s) if s.n < runs => format!("{} ({} of {runs})", s.text(0), s.n),
                Some(s) => s.text(0),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {runs} | {} | {} | {steps} | {} | {} |",
                arm.name,
                arm.about,
                shown(start),
                shown(self.spread(arm, |r| Some(r.return_end))),
                or_dash(arm.published_return),
                or_dash(arm.published_steps),
            );
        }
        text
    }

    /// Learning curves and final returns, mean and deviation over seeds.
    pub fn figure(&self) -> String {
        let of_arms = |points: &dyn Fn(&Arm) -> Vec<Point>| -> Vec<Series> {
            let arms = self.comparison.arms.iter();
            arms.map(|arm| Series { name: arm.name.to_owned(), points: points(arm) }).collect()
        };
        let curves = Panel::lines(
            "learning",
            Axis::linear("updates"),
            Axis::linear("return of an evaluation"),
            of_arms(&|arm| self.curve(arm)),
        );
        let finals = Panel::bars(
            "final policies",
            Axis::categories("", ["start coefficients", "end coefficients"].map(str::to_owned).to_vec()),
            Axis::linear("return, protocol paper"),
            of_arms(&|arm| self.finals(arm)),
        );
        Figure {
            title: self.comparison.title.to_owned(),
            colours: Colours::Distinct,
            panels: vec![curves, finals],
        }
        .to_svg()
    }

    fn finals(&self, arm: &Arm) -> Vec<Point> {
        let of = [self.spread(arm, |r| Some(r.return_start)), self.spread(arm, |r| Some(r.return_end))];
        let point = |(i, s): (usize, Option<Spread>)| {
            let s = s?;
            Some(Point { x: i as f64, y: s.mean, error: (s.n > 1).then_some(s.deviation) })
        };
        of.into_iter().enumerate().filter_map(point).collect()
    }

    fn curve(&self, arm: &Arm) -> Vec<Point> {
        let curves: Vec<_> = self.of_arm(arm).filter_map(|(run, _)| curve::read(&run.dir).ok()).collect();
        let last = self.of_arm(arm).map(|(_, r)| r.updates).max().unwrap_or(0);
        (1..=CURVE_POINTS)
            .filter_map(|part| {
                let at = last as f64 * part as f64 / CURVE_POINTS as f64;
                let values: Vec<f64> = curves
                    .iter()
                    .filter_map(|c| c.iter().rev().find(|p| p.updates <= at))
                    .map(|p| p.evaluation_return)
                    .collect();
                let spread = Spread::of(&values)?;
                Some(Point { x: at, y: spread.mean, error: (spread.n > 1).then_some(spread.deviation) })
            })
            .collect()
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_samples() {
        let s = Spread::of(&[1.0, 2.0, 4.5]).unwrap();
        assert!((s.mean - 2.5).abs() < 1e-12 && (s.deviation - 3.25_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[7.0]).unwrap().text(1), "7.0 ± 0.0");
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_table_counts_what_is_finished_and_leaves_the_rest_open() {
        let dir = tempfile::tempdir().unwrap();
        let comparison = super::super::arms::ablation(3000);
        let runs: Vec<Run> = (1..=2)
            .flat_map(|seed| comparison.arms.iter().map(move |arm| (seed, arm.clone())))
            .map(|(seed, arm)| Run { dir: dir.path().join(format!("{}-{seed}", arm.name)), arm, seed })
            .collect();
        for run in runs.iter().filter(|r| r.arm.name == "both") {
            std::fs::create_dir_all(&run.dir).unwrap();
            let result = RunResult {
                updates: 1000,
                return_start: 400.0 + 10.0 * run.seed as f64,
                return_end: 300.0,
                completed_share: 1.0,
                xy_error_m: 0.03,
                activation_sparsity: 0.8,
                steps_to_100: (run.seed == 1).then_some(5000.0),
                updates_to_100: (run.seed == 1).then_some(200.0),
                wall_s: 60.0,
            };
            std::fs::write(run.dir.join("result.json"), serde_json::to_vec(&result).unwrap()).unwrap();
        }
        let tables = Tables::of(&comparison, &runs);
        let table = tables.markdown();
        assert!(
            table.contains("| 2 | 415.0 ± 7.1 | 300.0 ± 0.0 | 5000 ± 0 (1 of 2) | 412 ± 6.7 |"),
            "{table}"
        );
        assert!(table.contains("| `neither` | without both | 0 | – | – | – | 36 ± 4.1 | never |"), "{table}");
        assert_eq!(tables.runs_csv().lines().count(), 3);
        let columns = |line: &str| line.replace("2,200", "").split(',').count();
        let csv = tables.csv();
        let widths: Vec<usize> = csv.lines().map(columns).collect();
        assert_eq!(widths, [14, 14], "{csv}");
    }
}
