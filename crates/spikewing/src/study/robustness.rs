//! `spikewing study robustness`: what pilots still do when the flight is not the one that they were made for.

mod conditions;
mod pilots;
mod table;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use spikewing_quad::protocol::Evaluation;
use spikewing_rl::checkpoint::write_atomically;

use crate::Failure;
use conditions::CONDITIONS;
use pilots::Flyer;
use table::{Cell, Table};

/// How much the guides and the student bear: another mass, slower motors, disturbances, late commands, more noise
///
/// A policy that flies its own simulator may have learned that simulator. Three pilots hover a Crazyflie (simulator l2f0,
/// protocol paper) in flights that differ from it in one thing at a time, of which no pilot is told:
///
/// mass ±20 % (inertia too; the episode starts in equilibrium all the same), motor lag −20 %, +20 % and twofold (time
/// constants), a torque of 0.1 N mm about a random axis through the episode, the thrust of each rotor off by up to ±10 %,
/// commands that reach the motors 10, 20 and 30 ms late (one to three control steps), observation noise of 0, 0.5, 1.5 and 2
/// times the simulator's.
///
/// The pilots: `geometric`, the classical controller of the nominal vehicle; `guide`, a learned network that sees its last 32
/// commands; `student`, the spiking network, which takes over from the guide after 50 steps, when its membranes are warm.
///
/// OUT gets robustness.csv (a line per pilot and condition: mean return, share of completed episodes, horizontal error in m,
/// mean change of the action from step to step, and the action's power above 5 Hz, which tells chatter from manoeuvres and is
/// blank where every episode ended within 1.5 s) and robustness.md (returns and completed shares as a table, which is
/// printed too).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  spikewing study robustness
  spikewing study robustness --student runs/mine/policy.safetensors --out runs/mine/robustness
  spikewing study robustness --guide geometric --episodes 10 --json")]
pub struct RobustnessArgs {
    /// Learned guide (.safetensors): flies by itself and the student's first 50 steps; `geometric` does without
    #[arg(long, value_name = "FILE", default_value = "policies/crazyflie/guide.safetensors")]
    guide: String,
    /// Spiking policy (.safetensors)
    #[arg(long, value_name = "FILE", default_value = "policies/crazyflie/student.safetensors")]
    student: String,
    /// Episodes per pilot and condition
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of noise, disturbances and thrust factors; the same seed writes the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the tables; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "runs/study-robustness")]
    out: PathBuf,
    /// Print JSON on standard output instead of the table
    #[arg(long)]
    json: bool,
}

impl RobustnessArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let nominal = Evaluation::paper(self.episodes as usize, self.seed)?;
        // Before the work, so that a wrong name does not cost it.
        let pilots = pilots::find(&self.guide, &self.student, &nominal.vehicle)?;
        let folder = |e: std::io::Error| format!("--out {}: {e}", self.out.display());
        std::fs::create_dir_all(&self.out).map_err(folder)?;
        let table = Table { episodes: self.episodes, seed: self.seed, cells: fly(&pilots, &nominal) };
        let (csv, markdown) = (self.out.join("robustness.csv"), self.out.join("robustness.md"));
        for (path, text) in [(&csv, table.to_csv()), (&markdown, table.to_markdown())] {
            write_atomically(path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if self.json {
            println!("{}", serde_json::to_string(&table)?);
        } else {
            print!("{}", table.to_markdown());
        }
        eprintln!("wrote {} and {}", csv.display(), markdown.display());
        Ok(())
    }
}

/// Every pilot under every condition, row by row; cells are flown side by side.
fn fly(pilots: &[Flyer], nominal: &Evaluation) -> Vec<Cell> {
    let cells: Vec<_> = CONDITIONS.iter().flat_map(|c| pilots.iter().map(move |p| (c, p))).collect();
    let bar = ProgressBar::new((cells.len() * nominal.episodes) as u64);
    if let Ok(style) = ProgressStyle::with_template("flying {bar:30} {pos}/{len} episodes, {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let cells = cells
        .into_par_iter()
        .map(|(condition, pilot)| {
            let flight = pilot.fly(&condition.change.applied(nominal), || bar.inc(1));
            Cell::new(condition.name, pilot.name(), &flight)
        })
        .collect();
    bar.finish_and_clear();
    cells
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn policy(name: &str) -> String {
        format!("{}/../../policies/crazyflie/{name}.safetensors", env!("CARGO_MANIFEST_DIR"))
    }

    fn args(out: PathBuf) -> RobustnessArgs {
        let (guide, student) = (policy("guide"), policy("student"));
        RobustnessArgs { guide, student, episodes: 1, seed: 1, out, json: false }
    }

    #[test]
    fn the_tables_have_every_pilot_under_every_condition_and_the_same_seed_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(folder.path().join("new/study"));
        let read = |name: &str| fs::read_to_string(folder.path().join("new/study").join(name)).unwrap();
        args.run().unwrap();
        let csv = read("robustness.csv");
        for condition in CONDITIONS {
            for pilot in ["geometric", "guide", "student"] {
                let start = format!("{},{pilot},", condition.name);
                assert_eq!(csv.lines().filter(|l| l.starts_with(&start)).count(), 1, "{start} in {csv}");
            }
            assert!(read("robustness.md").contains(&format!("| {} ", condition.name)));
        }
        assert_eq!(csv.lines().count(), 1 + 3 * CONDITIONS.len());
        assert!(csv.lines().all(|l| l.split(',').count() == 7), "{csv}");
        args.run().unwrap();
        assert_eq!(read("robustness.csv"), csv);
        // Without a learned guide the geometric one warms the student up.
        args.guide = "geometric".to_owned();
        args.json = true;
        args.run().unwrap();
        assert_eq!(read("robustness.csv").lines().count(), 1 + 2 * CONDITIONS.len());
    }

    #[test]
    fn a_wrong_file_is_named_with_its_mend() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let error = |guide: &str, student: &str| {
            let args =
                RobustnessArgs { guide: guide.to_owned(), student: student.to_owned(), ..args(out.clone()) };
            args.run().unwrap_err().to_string()
        };
        let (guide, student) = (policy("guide"), policy("student"));
        for (text, words) in [
            (error("absent.safetensors", &student), ["--guide", "absent.safetensors", "train guide"]),
            (error(&guide, "absent.safetensors"), ["--student", "absent.safetensors", "spikewing train"]),
            (error(&student, &student), ["--guide", "student.safetensors", "train guide"]),
            (error(&guide, &guide), ["--student", "guide.safetensors", "--guide"]),
        ] {
            assert!(words.iter().all(|w| text.contains(w)), "{text}");
        }
        assert!(!out.exists(), "nothing is written for what cannot be flown");
    }
}
