//! What the runs of a comparison say together: mean ± standard deviation over seeds, beside what was published.

use std::fmt::Write;

use super::{
    arms::{Arm, Comparison},
    curve,
    execute::{Reached, Run, RunResult},
    layers,
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
        let mut text = "arm,seed,updates,return_start,return_end,return_end_symmetric,return_last,completed_share,\
                        return_alone,completed_share_alone,xy_error_m,activation_sparsity,updates_to_100,steps_to_100,\
                        seconds_to_100,updates_to_400,steps_to_400,seconds_to_400,wall_s\n"
            .to_owned();
        let reached = |r: Option<Reached>| {
            r.map_or_else(
                || ",,".to_owned(),
                |r| format!("{},{},{}", r.updates, r.environment_steps, r.seconds),
            )
        };
        for (run, r) in &self.finished {
            let numbers = [
                r.return_start,
                r.return_end,
                r.return_end_symmetric,
                r.return_last,
                r.completed_share,
                r.return_alone,
                r.completed_share_alone,
                r.xy_error_m,
                r.activation_sparsity,
            ];
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{}",
                run.arm.name,
                run.seed,
                r.updates,
                numbers.map(|n| n.to_string()).join(","),
                reached(r.to_100),
                reached(r.to_400),
                r.wall_s
            );
        }
        text
    }

    /// Every arm, a line each: mean and standard deviation over its runs.
    pub fn csv(&self) -> String {
        type Column = (&'static str, fn(&RunResult) -> Option<f64>);
        const COLUMNS: [Column; 15] = [
            ("return_start", |r| Some(r.return_start)),
            ("return_end", |r| Some(r.return_end)),
            ("return_end_symmetric", |r| Some(r.return_end_symmetric)),
            ("return_last", |r| Some(r.return_last)),
            ("completed_share", |r| Some(r.completed_share)),
            ("return_alone", |r| Some(r.return_alone)),
            ("completed_share_alone", |r| Some(r.completed_share_alone)),
            ("activation_sparsity", |r| Some(r.activation_sparsity)),
            ("updates_to_100", |r| r.to_100.map(|t| t.updates)),
            ("steps_to_100", |r| r.to_100.map(|t| t.environment_steps)),
            ("seconds_to_100", |r| r.to_100.map(|t| t.seconds)),
            ("updates_to_400", |r| r.to_400.map(|t| t.updates)),
            ("steps_to_400", |r| r.to_400.map(|t| t.environment_steps)),
            ("seconds_to_400", |r| r.to_400.map(|t| t.seconds)),
            ("wall_s", |r| Some(r.wall_s)),
        ];
        let names = COLUMNS.map(|(name, _)| format!("{name},{name}_std")).join(",");
        let mut text =
            format!("arm,runs,reached_100,reached_400,{names},published_return,published_steps_to_100\n");
        for arm in &self.comparison.arms {
            let runs = self.of_arm(arm).count();
            if runs == 0 {
                continue;
            }
            let count =
                |reached: fn(&RunResult) -> bool| self.of_arm(arm).filter(|(_, r)| reached(r)).count();
            let cells = COLUMNS.map(|(_, value)| {
                self.spread(arm, value)
                    .map_or_else(|| ",".to_owned(), |s| format!("{},{}", s.mean, s.deviation))
            });
            let _ = writeln!(
                text,
                "{},{runs},{},{},{},\"{}\",\"{}\"",
                arm.name,
                count(|r| r.to_100.is_some()),
                count(|r| r.to_400.is_some()),
                cells.join(","),
                arm.published_return,
                arm.published_steps
            );
        }
        text
    }

    /// The tables for people: what was reached, how soon, and what the layers did.
    pub fn markdown(&self) -> String {
        format!(
            "### {}\n\n{}\n{}\n{}",
            self.comparison.title,
            self.returns(),
            self.speeds(),
            layers::table(&self.comparison.arms, &self.layers())
        )
    }

    fn returns(&self) -> String {
        let mut text = "Return of the best policy over episodes of 500 steps, after half a second of the guide; `fell`: share of \
                        episodes that did not last.\n\n\
                        | arm | | runs | start coefficients | fell | from the first step on | fell | end coefficients | … \
                        actions on [−1, 1] | last policy instead of best | published |\n\
                        |---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
        for arm in &self.comparison.arms {
            let shown = |value: fn(&RunResult) -> f64, decimals: usize| {
                self.spread(arm, |r| Some(value(r))).map_or_else(|| "–".to_owned(), |s| s.text(decimals))
            };
            let percent = |value: fn(&RunResult) -> f64| {
                self.spread(arm, |r| Some(value(r)))
                    .map_or_else(|| "–".to_owned(), |s| format!("{:.0} %", 100.0 * (1.0 - s.mean)))
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                arm.name,
                arm.about,
                self.of_arm(arm).count(),
                shown(|r| r.return_start, 1),
                percent(|r| r.completed_share),
                shown(|r| r.return_alone, 1),
                percent(|r| r.completed_share_alone),
                shown(|r| r.return_end, 1),
                shown(|r| r.return_end_symmetric, 1),
                shown(|r| r.return_last, 1),
                or_dash(arm.published_return),
            );
        }
        text
    }

    fn speeds(&self) -> String {
        let mut text = "Until an evaluation (every 20 updates, 5 episodes) first returned 100, and 400; seconds are of this machine, \
                        with as many runs side by side as there were.\n\n\
                        | arm | updates to 100 | steps | s | updates to 400 | steps | s | a run, s | published steps to 100 \
                        |\n|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
        for arm in &self.comparison.arms {
            let runs = self.of_arm(arm).count();
            let until = |reached: fn(&RunResult) -> Option<Reached>| {
                let part = |value: fn(Reached) -> f64| self.spread(arm, |r| reached(r).map(value));
                match (part(|t| t.updates), part(|t| t.environment_steps), part(|t| t.seconds)) {
                    (Some(updates), Some(steps), Some(seconds)) => {
                        let of = if updates.n < runs {
                            format!(" ({} of {runs})", updates.n)
                        } else {
                            String::new()
                        };
                        format!("{}{of} | {} | {}", updates.text(0), steps.text(0), seconds.text(0))
                    }
                    _ if runs == 0 => "– | – | –".to_owned(),
                    _ => "never | – | –".to_owned(),
                }
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                arm.name,
                until(|r| r.to_100),
                until(|r| r.to_400),
                self.spread(arm, |r| Some(r.wall_s)).map_or_else(|| "–".to_owned(), |s| s.text(0)),
                or_dash(arm.published_steps),
            );
        }
        text
    }

    /// What each finished run's layers did, by arm.
    fn layers(&self) -> Vec<(&'static str, Vec<layers::Look>)> {
        self.finished.iter().map(|(run, _)| (run.arm.name, layers::read(&run.dir))).collect()
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
            let reached = Reached { updates: 200.0, environment_steps: 5000.0, seconds: 3.0 };
            let result = RunResult {
                updates: 1000,
                return_start: 400.0 + 10.0 * run.seed as f64,
                return_end: 300.0,
                return_end_symmetric: 310.0,
                return_last: 390.0,
                completed_share: 1.0,
                return_alone: 200.0,
                completed_share_alone: 0.25,
                xy_error_m: 0.03,
                activation_sparsity: 0.8,
                to_100: (run.seed == 1).then_some(reached),
                to_400: None,
                wall_s: 60.0,
            };
            std::fs::write(run.dir.join("result.json"), serde_json::to_vec(&result).unwrap()).unwrap();
        }
        let tables = Tables::of(&comparison, &runs);
        let table = tables.markdown();
        for row in [
            "| 2 | 415.0 ± 7.1 | 0 % | 200.0 ± 0.0 | 75 % | 300.0 ± 0.0 | 310.0 ± 0.0 | 390.0 ± 0.0 | 412 ± 6.7 |",
            "| `both` | 200 ± 0 (1 of 2) | 5000 ± 0 | 3 ± 0 | never | – | – | 60 ± 0 | 2,200 ± 124 |",
            "| `neither` | without both | 0 | – | – | – | – | – | – | – | 36 ± 4.1 |",
        ] {
            assert!(table.contains(row), "{row}\n{table}");
        }
        let columns = |line: &str| line.replace("2,200", "").split(',').count();
        let widths = |csv: &str| csv.lines().map(columns).collect::<Vec<_>>();
        assert_eq!(widths(&tables.runs_csv()), [19; 3]);
        assert_eq!(widths(&tables.csv()), [36; 2]);
    }
}
