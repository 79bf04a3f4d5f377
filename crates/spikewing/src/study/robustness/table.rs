//! The figures of the study and its files.

use std::fmt::Write;

use serde::Serialize;
use spikewing_quad::protocol::Summary;

/// A pilot under a condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Row.
    pub condition: &'static str,
    /// Column.
    pub pilot: &'static str,
    /// Mean return, of all episodes.
    pub return_mean: f64,
    /// Share of episodes that lasted all steps.
    pub completed_share: f64,
    /// Mean horizontal distance to the setpoint over all steps, m.
    pub xy_error_m: f64,
    /// Mean change of the action from step to step.
    pub action_change_mean: f64,
    /// Power of the action above 5 Hz; none when no episode was long enough.
    pub action_power_above_5hz: Option<f64>,
}

impl Cell {
    /// Of a flown evaluation.
    pub fn new(condition: &'static str, pilot: &'static str, flight: &Summary) -> Self {
        Self {
            condition,
            pilot,
            return_mean: flight.return_mean,
            completed_share: flight.completed_share,
            xy_error_m: flight.xy_error_m,
            action_change_mean: flight.action_change_mean,
            action_power_above_5hz: flight.action_power_above_5hz,
        }
    }
}

/// All cells, row by row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Episodes of each cell.
    pub episodes: u32,
    /// Their seed.
    pub seed: u64,
    /// In the order of the table.
    pub cells: Vec<Cell>,
}

impl Table {
    /// As comma-separated values, a line per cell.
    pub fn to_csv(&self) -> String {
        let mut text = "condition,pilot,return_mean,completed_share,xy_error_m,action_change_mean,\
                        action_power_above_5hz\n"
            .to_owned();
        for c in &self.cells {
            let power = c.action_power_above_5hz.map(|p| format!("{p:.6e}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "{},{},{:.4},{:.4},{:.5},{:.5},{power}",
                c.condition, c.pilot, c.return_mean, c.completed_share, c.xy_error_m, c.action_change_mean
            );
        }
        text
    }

    /// For people: rows conditions, columns pilots, `return (completed %)`.
    pub fn to_markdown(&self) -> String {
        let pilots = distinct(self.cells.iter().map(|c| c.pilot));
        let conditions = distinct(self.cells.iter().map(|c| c.condition));
        // Aligned, so that the source reads as a table too.
        let width = conditions.iter().map(|c| c.chars().count()).fold("condition".len(), usize::max);
        let mut text = format!(
            "Return (completed %) of {} episodes of protocol `paper`, simulator `l2f0`, start coefficients, seed {}\n\n",
            self.episodes, self.seed
        );
        let row = |text: &mut String, first: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|c| format!(" {c:>14} |")).collect();
            let _ = writeln!(text, "| {first:width$} |{cells}");
        };
        row(&mut text, "condition", &pilots.iter().map(ToString::to_string).collect::<Vec<_>>());
        let line =
            format!("|{}|{}\n", "-".repeat(width + 2), format!("{}:|", "-".repeat(15)).repeat(pilots.len()));
        text += &line;
        for condition in conditions {
            let cells = pilots.iter().map(|pilot| {
                let cell = self.cells.iter().find(|c| c.condition == condition && c.pilot == *pilot);
                cell.map_or_else(String::new, |c| {
                    format!("{:.1} ({:.0} %)", c.return_mean, 100.0 * c.completed_share)
                })
            });
            row(&mut text, condition, &cells.collect::<Vec<_>>());
        }
        text
    }
}

fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_without_a_power_leaves_it_open_and_rows_keep_their_order() {
        let cell = |condition, pilot, completed_share, action_power_above_5hz| Cell {
            condition,
            pilot,
            return_mean: 123.45678,
            completed_share,
            xy_error_m: 0.01,
            action_change_mean: 0.25,
            action_power_above_5hz,
        };
        let cells = vec![
            cell("nominal", "geometric", 1.0, Some(0.0125)),
            cell("nominal", "student", 1.0, Some(0.0125)),
            cell("noise x2", "geometric", 1.0, Some(0.0125)),
            cell("noise x2", "student", 0.02, None),
        ];
        let table = Table { episodes: 50, seed: 1, cells };
        let csv = table.to_csv();
        assert!(csv.contains("\nnominal,geometric,123.4568,1.0000,0.01000,0.25000,1.250000e-2\n"), "{csv}");
        assert!(csv.ends_with("noise x2,student,123.4568,0.0200,0.01000,0.25000,\n"), "{csv}");
        let markdown = table.to_markdown();
        assert!(markdown.contains("| condition |      geometric |        student |\n|---"), "{markdown}");
        assert!(markdown.ends_with("| noise x2  |  123.5 (100 %) |    123.5 (2 %) |\n"), "{markdown}");
    }
}
