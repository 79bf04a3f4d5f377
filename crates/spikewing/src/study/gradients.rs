//! `spikewing study gradients`: how a surrogate's slope shapes the gradient that reaches each layer (PAPER: the gradient
//! study; Van den Berghe et al. 2025, figure 2).

mod comparison;
mod measurement;
mod table;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use spikewing_rl::checkpoint::write_atomically;

use crate::Failure;
use measurement::{Measurement, Neurons};
use table::{Row, Table};

use super::plot::{Axis, Colours, Figure, Panel, Point, Series};

/// How large a gradient reaches each layer, and how well it is aligned, for each surrogate slope
///
/// A spike has no useful derivative; training replaces it by 1/(1 + k·|U − U_thr|)². This study shows what the slope k trades.
/// A network of 18 inputs, four layers of 64 leaky integrate-and-fire neurons and 4 outputs runs over 32 random sequences of 50
/// steps, and the gradient of a squared error is taken with every slope. Per layer, averaged over many random networks:
///
/// The mean magnitude of the weight gradient: the smaller k, the more reaches the first layers.
///
/// Its cosine similarity to the gradient of slope 100, which stands for the true one: the smaller k, the less they agree, and
/// the less the further the gradient has travelled.
///
/// OUT gets, per set-up, a table (SETUP.csv) and a figure (SETUP.svg).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  spikewing study gradients
  spikewing study gradients --neurons fixed --initialisations 20 --slopes 1,10,100
  spikewing study gradients --compare crates/spikewing/tests/data/gradients")]
pub struct GradientsArgs {
    /// How leaks and thresholds are drawn
    #[arg(long, value_enum, default_value = "both")]
    neurons: NeuronsName,
    /// Random networks (with new inputs and targets each) to average over
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    initialisations: u32,
    /// Slopes to measure, 1 (shallow) to 100 (steep)
    #[arg(long, value_delimiter = ',', default_value = "1,2,5,10,25,50,100", value_parser = slope)]
    slopes: Vec<f64>,
    /// Seed of networks, inputs and targets; the same seed writes the same tables
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for tables and figures; made if it is not there
    #[arg(long, default_value = "runs/study-gradients")]
    out: PathBuf,
    /// Print how far the result is from a reference: a table in the same columns, or a folder with rand.csv and fixed.csv
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum NeuronsName {
    /// Leak and threshold uniform in [0, 1) per neuron, as training starts
    Rand,
    /// Leak 0.9, threshold 0.5
    Fixed,
    /// One after the other
    Both,
}

fn slope(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(k) if k.is_finite() && k > 0.0 => Ok(k),
        _ => Err(format!("a slope is a number above 0, such as 1 or 25, not {text:?}")),
    }
}

impl GradientsArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let setups: &[Neurons] = match self.neurons {
            NeuronsName::Rand => &[Neurons::Rand],
            NeuronsName::Fixed => &[Neurons::Fixed],
            NeuronsName::Both => &[Neurons::Rand, Neurons::Fixed],
        };
        // Read before the work, so that a wrong name does not cost it.
        let references = setups
            .iter()
            .map(|&neurons| self.reference(neurons))
            .collect::<Result<Vec<Option<(PathBuf, Table)>>, Failure>>()?;
        let unused =
            |path: &PathBuf| format!("{}: is for a set-up that is not run, see --neurons", path.display());
        if let (Some(path), true) = (&self.compare, references.iter().all(Option::is_none)) {
            return Err(unused(path).into());
        }
        std::fs::create_dir_all(&self.out).map_err(|e| format!("{}: {e}", self.out.display()))?;
        let mut slopes = self.slopes.clone();
        slopes.sort_by(f64::total_cmp);
        slopes.dedup();
        for (&neurons, reference) in setups.iter().zip(references) {
            let table = self.measure(neurons, &slopes)?;
            let (csv, svg) = (self.path(neurons, "csv"), self.path(neurons, "svg"));
            write(&csv, &table.to_csv())?;
            write(&svg, &figure(neurons, &table).to_svg())?;
            print(neurons, &table);
            eprintln!("wrote {} and {}", csv.display(), svg.display());
            if let Some((path, reference)) = reference {
                println!("\nagainst {}", path.display());
                print!("{}", comparison::compare(&table, &reference)?);
            }
            println!();
        }
        Ok(())
    }

    fn path(&self, neurons: Neurons, extension: &str) -> PathBuf {
        self.out.join(neurons.name()).with_extension(extension)
    }

    fn reference(&self, neurons: Neurons) -> Result<Option<(PathBuf, Table)>, Failure> {
        let Some(given) = &self.compare else { return Ok(None) };
        let path =
            if given.is_dir() { given.join(neurons.name()).with_extension("csv") } else { given.clone() };
        // A table named after the other set-up is for that one.
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if stem != neurons.name() && Neurons::ALL.iter().any(|other| other.name() == stem) {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let table = Table::from_csv(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Some((path, table)))
    }

    fn measure(&self, neurons: Neurons, slopes: &[f64]) -> Result<Table, Failure> {
        let bar = ProgressBar::new(u64::from(self.initialisations));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} networks, {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(neurons.name());
        bar.enable_steady_tick(Duration::from_millis(200));
        let measurement = Measurement { neurons, slopes: slopes.to_vec(), seed: self.seed };
        let table = measurement.run(self.initialisations, || bar.inc(1))?;
        bar.finish_and_clear();
        Ok(table)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    write_atomically(path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn print(neurons: Neurons, table: &Table) {
    println!(
        "{}: mean |∂L/∂W| per layer, and its cosine similarity to that of slope 100",
        neurons.describe()
    );
    let layers = table.layers();
    let title: String = layers.iter().map(|l| format!("{:>21}", layer_name(*l, &layers))).collect();
    println!("{:>8}{title}", "slope");
    for slope in table.slopes() {
        let cells = layers.iter().filter_map(|&l| table.row(slope, l));
        let cells: String = cells.map(|r| format!("{:>14.2e} {:>6.3}", r.magnitude, r.cosine)).collect();
        println!("{slope:>8}{cells}");
    }
}

fn layer_name(layer: usize, layers: &[usize]) -> String {
    if Some(&layer) == layers.last() { "decoder".to_owned() } else { format!("layer {}", layer + 1) }
}

fn figure(neurons: Neurons, table: &Table) -> Figure {
    let layers = table.layers();
    let names: Vec<String> = layers.iter().map(|&l| layer_name(l, &layers)).collect();
    let series = |value: fn(&Row) -> (f64, f64)| -> Vec<Series> {
        let of_slope = |slope: f64| {
            let rows = layers.iter().enumerate().filter_map(|(i, &l)| Some((i, table.row(slope, l)?)));
            let points = rows.map(|(i, row)| {
                let (y, sd) = value(row);
                Point { x: i as f64, y, error: Some(sd) }
            });
            Series { name: format!("k = {slope}"), points: points.collect() }
        };
        table.slopes().into_iter().map(of_slope).collect()
    };
    Figure {
        title: format!("Gradients through four spiking layers; {}", neurons.describe()),
        colours: Colours::Ordered,
        panels: vec![
            Panel::lines(
                "Mean magnitude of the weight gradient",
                Axis::categories("", names.clone()),
                Axis::log("mean |∂L/∂W| ± sd over networks"),
                series(|row| (row.magnitude, row.magnitude_sd)),
            ),
            Panel::lines(
                "Alignment with the steepest slope",
                Axis::categories("", names),
                Axis::linear("cosine similarity to k = 100 ± sd").within(-0.05, 1.05),
                series(|row| (row.cosine, row.cosine_sd)),
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAND: &str = include_str!("../../tests/data/gradients/rand.csv");
    const FIXED: &str = include_str!("../../tests/data/gradients/fixed.csv");

    /// Fewer networks than the reference averaged over, so the bounds are those of sampling.
    fn trends_follow(neurons: Neurons, reference: &str) {
        let reference = Table::from_csv(reference).unwrap();
        let measurement = Measurement { neurons, slopes: reference.slopes(), seed: 1 };
        let table = measurement.run(16, || ()).unwrap();
        assert_eq!((table.slopes(), table.layers()), (reference.slopes(), reference.layers()));
        for row in table.rows() {
            let expected = reference.row(row.slope, row.layer).unwrap();
            let (k, layer) = (row.slope, row.layer);
            let ratio = row.magnitude / expected.magnitude;
            assert!((0.65..1.55).contains(&ratio), "k {k}, layer {layer}: {row:?} against {expected:?}");
            assert!(
                (row.cosine - expected.cosine).abs() < 0.15,
                "k {k}, layer {layer}: {row:?} {expected:?}"
            );
            if let (Some(rate), Some(expected)) = (row.firing_rate, expected.firing_rate) {
                assert!((rate / expected - 1.0).abs() < 0.2, "layer {layer} fires at {rate}, not {expected}");
            }
        }
        for layer in 0..4 {
            // How fast the magnitude falls with the slope hardly depends on the networks drawn.
            let (falls, expected) = (table.exponent(layer), reference.exponent(layer));
            assert!((falls / expected - 1.0).abs() < 0.05, "layer {layer}: k^{falls} against k^{expected}");
        }
        for slopes in table.slopes().windows(2) {
            for layer in 0..4 {
                let (a, b) = (table.row(slopes[0], layer).unwrap(), table.row(slopes[1], layer).unwrap());
                assert!(a.magnitude > b.magnitude, "layer {layer}: the magnitude falls with k");
                assert!(a.cosine < b.cosine, "layer {layer}: the alignment grows with k");
                if layer > 0 {
                    let above = table.row(slopes[0], layer - 1).unwrap();
                    assert!(above.cosine < a.cosine, "the way down costs alignment");
                }
            }
            // No surrogate lies between the loss and the decoder.
            let decoder = slopes.iter().map(|k| table.row(*k, 4).unwrap().magnitude).collect::<Vec<_>>();
            assert_eq!(decoder[0], decoder[1]);
        }
    }

    #[test]
    fn random_neurons_follow_snntorch() {
        trends_follow(Neurons::Rand, RAND);
    }

    #[test]
    fn fixed_neurons_follow_snntorch() {
        trends_follow(Neurons::Fixed, FIXED);
    }

    #[test]
    fn the_command_writes_tables_and_figures_and_compares() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = GradientsArgs {
            neurons: NeuronsName::Both,
            initialisations: 2,
            slopes: vec![100.0, 1.0, 1.0],
            seed: 3,
            out: folder.path().join("new/study"),
            compare: None,
        };
        args.run().unwrap();
        let first = std::fs::read_to_string(args.out.join("rand.csv")).unwrap();
        let table = Table::from_csv(&first).unwrap();
        assert_eq!(table.slopes(), [1.0, 100.0]);
        assert!(std::fs::read_to_string(args.out.join("fixed.svg")).unwrap().starts_with("<svg"));
        // The same seed, the same bytes; and compared with itself nothing differs.
        args.compare = Some(args.out.clone());
        args.run().unwrap();
        assert_eq!(std::fs::read_to_string(args.out.join("rand.csv")).unwrap(), first);
        let same = comparison::compare(&table, &table).unwrap();
        assert!(same.contains("1.00") && same.contains("0.000"), "{same}");
        args.seed = 4;
        args.neurons = NeuronsName::Rand;
        args.compare = Some(args.out.join("fixed.csv"));
        assert!(args.run().unwrap_err().to_string().contains("--neurons"));
        args.compare = Some(folder.path().join("absent.csv"));
        assert!(args.run().unwrap_err().to_string().contains("absent.csv"));
        args.compare = None;
        args.run().unwrap();
        assert_ne!(std::fs::read_to_string(args.out.join("rand.csv")).unwrap(), first);
    }
}
