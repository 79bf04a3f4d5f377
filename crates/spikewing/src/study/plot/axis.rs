//! An axis: where a value lies, and which values are marked.

/// What an axis counts in.
#[derive(Clone, Debug, PartialEq)]
enum Scale {
    Linear,
    Log,
    Categories(Vec<String>),
}

/// A labelled axis; its range is fitted to what is drawn, unless [`Axis::within`] gives one.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    scale: Scale,
    range: Option<(f64, f64)>,
    zero: bool,
}

impl Axis {
    fn new(label: &str, scale: Scale) -> Self {
        Self { label: label.to_owned(), scale, range: None, zero: false }
    }

    /// Equal differences are equal distances.
    pub fn linear(label: &str) -> Self {
        Self::new(label, Scale::Linear)
    }

    /// Equal factors are equal distances. What is not above zero is not shown.
    pub fn log(label: &str) -> Self {
        Self::new(label, Scale::Log)
    }

    /// Names side by side, at 0, 1, 2, …
    pub fn categories(label: &str, names: Vec<String>) -> Self {
        Self::new(label, Scale::Categories(names))
    }

    /// From `low` to `high`, whatever is drawn.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    /// Zero is always on the axis.
    pub fn with_zero(self) -> Self {
        Self { zero: true, ..self }
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn is_categories(&self) -> bool {
        matches!(self.scale, Scale::Categories(_))
    }

    /// Whether a value has a place at all.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (self.scale != Scale::Log || value > 0.0)
    }

    /// With a range around `values`.
    pub(super) fn fitted(&self, values: impl Iterator<Item = f64>) -> Self {
        let range = match &self.scale {
            Scale::Categories(names) => (-0.5, names.len().max(1) as f64 - 0.5),
            _ => self.range.unwrap_or_else(|| self.around(values)),
        };
        Self { range: Some(range), ..self.clone() }
    }

    fn around(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        let zero = self.zero.then_some(0.0);
        let (mut low, mut high) = values
            .chain(zero)
            .filter(|v| self.shows(*v))
            .map(|v| if self.scale == Scale::Log { v.log10() } else { v })
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-12 * high.abs().max(1.0) {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let margin = 0.04 * (high - low);
        // Bars stand on the axis itself.
        let margin_at = |end: f64| if self.zero && end == 0.0 { 0.0 } else { margin };
        let (low, high) = (low - margin_at(low), high + margin_at(high));
        if self.scale == Scale::Log { (10f64.powf(low), 10f64.powf(high)) } else { (low, high) }
    }

    fn ends(&self) -> (f64, f64) {
        self.range.unwrap_or((0.0, 1.0))
    }

    /// Where `value` lies between the places `from` and `to` of the axis' ends; beyond them at the end.
    pub(super) fn place(&self, value: f64, (from, to): (f64, f64)) -> f64 {
        let (low, high) = self.ends();
        let share = match self.scale {
            // Zero and below are infinitely far down.
            Scale::Log if value <= 0.0 => 0.0,
            Scale::Log => (value / low).ln() / (high / low).ln(),
            _ => (value - low) / (high - low),
        };
        from + share.clamp(0.0, 1.0) * (to - from)
    }

    /// Distance between two categories.
    pub(super) fn step(&self, ends: (f64, f64)) -> f64 {
        (self.place(1.0, ends) - self.place(0.0, ends)).abs()
    }

    /// Values to mark, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.ends();
        match &self.scale {
            Scale::Categories(names) => {
                names.iter().enumerate().map(|(i, n)| (i as f64, n.clone())).collect()
            }
            Scale::Linear => linear_ticks(low, high),
            Scale::Log => {
                let (first, last) = (low.log10().ceil() as i32, high.log10().floor() as i32);
                if last <= first {
                    // Less than a decade or two: marks as on a linear axis.
                    return linear_ticks(low, high);
                }
                let every = ((last - first) / 8 + 1) as usize;
                (first..=last).step_by(every).map(|e| (10f64.powi(e), power_of_ten(e))).collect()
            }
        }
    }
}

/// About six round values.
fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 6.0;
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * decade).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * decade);
    let digits = (0..12).find(|&d| (step * 10f64.powi(d)).fract().abs() < 1e-6).unwrap_or(12) as usize;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    // Adding zero turns a negative zero into zero.
    (first..=last).map(|i| i as f64 * step + 0.0).map(|v| (v, format!("{v:.digits$}"))).collect()
}

fn power_of_ten(exponent: i32) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = exponent.abs().to_string();
    let digits: String = raised.chars().filter_map(|c| Some(RAISED[c.to_digit(10)? as usize])).collect();
    format!("10{}{digits}", if exponent < 0 { "⁻" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::linear("").within(-0.05, 1.05);
        assert_eq!(labels(&axis), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::linear("").within(-200.0, 450.0)), ["-200", "0", "200", "400"]);
        assert_eq!(labels(&Axis::log("").within(2e-8, 0.5)).first().map(String::as_str), Some("10⁻⁷"));
        let narrow = Axis::log("").within(1.1, 8.0);
        assert!(narrow.ticks().len() >= 3, "{:?}", narrow.ticks());
    }

    #[test]
    fn values_outside_are_drawn_at_the_end() {
        let axis = Axis::log("").within(1.0, 100.0);
        assert_eq!(
            [0.0, 1.0, 10.0, 1e9].map(|v| axis.place(v, (0.0, 200.0)).round()),
            [0.0, 0.0, 100.0, 200.0]
        );
    }
}
