//! The learning curve that a run leaves in its `metrics.csv`.

use std::path::Path;

use crate::Failure;

/// One evaluation in the course of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluated {
    /// Updates made before it.
    pub updates: f64,
    /// Environment steps flown before it.
    pub environment_steps: f64,
    /// Its return.
    pub evaluation_return: f64,
}

/// The evaluations of a run, in order.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read(dir: &Path) -> Result<Vec<Evaluated>, Failure> {
    let path = dir.join("metrics.csv");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text).map_err(|reason| format!("{}: {reason}", path.display()).into())
}

fn parse(text: &str) -> Result<Vec<Evaluated>, String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column =
        |name: &str| header.iter().position(|h| *h == name).ok_or_else(|| format!("no column `{name}`"));
    let (updates, steps, score) =
        (column("step")?, column("environment_steps")?, column("evaluation_return")?);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    // Rows before the first evaluation have none, and the last row of a run that goes on may be half written.
    let read = |row: &Vec<&str>, score: usize| {
        let number = |i: usize| row.get(i).and_then(|t| t.parse::<f64>().ok());
        Some(Evaluated {
            updates: number(updates)?,
            environment_steps: number(steps)?,
            evaluation_return: number(score)?,
        })
    };
    // Evaluations that were made for the curve's sake are the finer curve.
    if let Ok(fine) = column("curve_return") {
        let points: Vec<Evaluated> = rows.iter().filter_map(|row| read(row, fine)).collect();
        if !points.is_empty() {
            return Ok(points);
        }
    }
    let mut evaluations: Vec<Evaluated> = rows.iter().filter_map(|row| read(row, score)).collect();
    // Every row repeats the last evaluation.
    evaluations.dedup_by(|next, last| next.evaluation_return == last.evaluation_return);
    Ok(evaluations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_are_told_from_rows_that_repeat_them() {
        let text = "step,time_s,evaluation_return,environment_steps\n0,1,,100\n200,2,50,900\n210,3,50,950\n400,4,120,2000\n41";
        let curve = parse(text).unwrap();
        let got: Vec<(f64, f64)> = curve.iter().map(|p| (p.updates, p.evaluation_return)).collect();
        assert_eq!(got, [(200.0, 50.0), (400.0, 120.0)]);
        assert_eq!(curve[1].environment_steps, 2000.0);
        let fine =
            "step,evaluation_return,environment_steps,curve_return\n20,,100,31\n40,,200,\n60,50,300,31\n";
        let curve = parse(fine).unwrap();
        assert_eq!(
            curve.iter().map(|p| (p.updates, p.evaluation_return)).collect::<Vec<_>>(),
            [(20.0, 31.0), (60.0, 31.0)]
        );
        assert!(parse("a,b\n").unwrap_err().contains("step"));
    }
}
