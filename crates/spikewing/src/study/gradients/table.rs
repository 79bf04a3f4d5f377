//! The table of the study and its file.

use crate::Failure;

const HEADER: &str = "slope,layer,mean_abs_grad,sd_over_inits,cosine_to_k100,cosine_sd,firing_rate";

/// One slope and linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Surrogate slope k.
    pub slope: f64,
    /// Linear layer, from 0; the last is the decoder.
    pub layer: usize,
    /// Mean |∂L/∂W|, averaged over networks, and its standard deviation over them.
    pub magnitude: f64,
    /// …
    pub magnitude_sd: f64,
    /// Cosine similarity to the gradient of slope 100, likewise.
    pub cosine: f64,
    /// …
    pub cosine_sd: f64,
    /// Share of the layer's neurons that fire per step; none for the decoder.
    pub firing_rate: Option<f64>,
}

/// All slopes and layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A table of rows in order.
    pub fn new(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// Rows in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of a slope and layer.
    pub fn row(&self, slope: f64, layer: usize) -> Option<&Row> {
        self.rows.iter().find(|r| r.slope == slope && r.layer == layer)
    }

    /// Slopes, rising.
    pub fn slopes(&self) -> Vec<f64> {
        let mut slopes: Vec<f64> = self.rows.iter().map(|r| r.slope).collect();
        slopes.sort_by(f64::total_cmp);
        slopes.dedup();
        slopes
    }

    /// Layers, first to last.
    pub fn layers(&self) -> Vec<usize> {
        let mut layers: Vec<usize> = self.rows.iter().map(|r| r.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// The power of k with which a layer's magnitude changes: the slope of the least-squares line in logarithms.
    pub fn exponent(&self, layer: usize) -> f64 {
        let points: Vec<(f64, f64)> = self
            .rows
            .iter()
            .filter(|r| r.layer == layer && r.magnitude > 0.0)
            .map(|r| (r.slope.ln(), r.magnitude.ln()))
            .collect();
        let n = points.len() as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
        let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
        covariance / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
    }

    /// As comma-separated values.
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for r in &self.rows {
            let rate = r.firing_rate.map_or_else(String::new, |rate| format!("{rate:.4}"));
            text += &format!(
                "{},{},{:.6e},{:.3e},{:.5},{:.4},{rate}\n",
                r.slope, r.layer, r.magnitude, r.magnitude_sd, r.cosine, r.cosine_sd
            );
        }
        text
    }

    /// Reads what [`Table::to_csv`] writes, columns in any order.
    pub fn from_csv(text: &str) -> Result<Self, Failure> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or("is empty; a table begins with its column names")?;
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let columns = HEADER
            .split(',')
            .map(|name| {
                let at = names.iter().position(|n| *n == name);
                at.ok_or_else(|| format!("has no column {name}; the columns are {HEADER}"))
            })
            .collect::<Result<Vec<usize>, String>>()?;
        let mut rows = Vec::new();
        for (number, line) in lines {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            let cell = |i: usize| cells.get(columns[i]).copied().unwrap_or_default();
            let value = |i: usize| {
                let wrong = || {
                    format!("line {}: {:?} is no number in column {}", number + 1, cell(i), names[columns[i]])
                };
                cell(i).parse::<f64>().map_err(|_| wrong())
            };
            let layer = cell(1)
                .parse()
                .map_err(|_| format!("line {}: layer {:?} is no number", number + 1, cell(1)))?;
            rows.push(Row {
                slope: value(0)?,
                layer,
                magnitude: value(2)?,
                magnitude_sd: value(3)?,
                cosine: value(4)?,
                cosine_sd: value(5)?,
                firing_rate: if cell(6).is_empty() { None } else { Some(value(6)?) },
            });
        }
        Ok(Self { rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let row = |slope, layer, firing_rate| Row {
            slope,
            layer,
            magnitude: 0.25 / slope,
            magnitude_sd: 0.125,
            cosine: 0.5,
            cosine_sd: 0.25,
            firing_rate,
        };
        let table = Table::new(vec![row(2.0, 0, Some(0.25)), row(2.0, 1, None), row(16.0, 0, Some(0.25))]);
        assert_eq!(Table::from_csv(&table.to_csv()).unwrap(), table);
        assert!((table.exponent(0) + 1.0).abs() < 1e-12, "0.25/k falls as k^-1");
    }

    #[test]
    fn a_bad_table_names_its_line_and_column() {
        let error = |text: &str| Table::from_csv(text).unwrap_err().to_string();
        assert!(error("").contains("empty"));
        assert!(error("slope,layer\n1,2\n").contains("mean_abs_grad"));
        let bad = format!("{HEADER}\n1,0,1,1,1,1,\n1,1,x,1,1,1,\n");
        assert!(error(&bad).contains("line 3") && error(&bad).contains("mean_abs_grad"), "{}", error(&bad));
    }
}
