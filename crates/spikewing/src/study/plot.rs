//! Figures as SVG: panels side by side, each of lines with error bars or of grouped bars, and one legend below.
//!
//! Nothing but text is written, so a figure is the same bytes on every machine, needs no font, and can be looked at in a
//! browser or a report.

mod axis;

use std::fmt::Write;

pub use axis::Axis;

const PANEL_WIDTH: f64 = 460.0;
const PANEL_HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 56.0;
const LEGEND_LINE: f64 = 20.0;

/// Told apart by people who confuse red and green, too (Okabe and Ito).
const DISTINCT: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Which colours the series get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colours {
    /// From dark to light: series that have an order, such as slopes.
    Ordered,
    /// As different as can be: methods, runs.
    Distinct,
}

impl Colours {
    fn of(self, index: usize, count: usize) -> String {
        match self {
            Self::Distinct => DISTINCT[index % DISTINCT.len()].to_owned(),
            Self::Ordered => {
                // Along viridis, without its pale end.
                const STOPS: [[f64; 3]; 5] = [
                    [68., 1., 84.],
                    [59., 82., 139.],
                    [33., 145., 140.],
                    [94., 201., 98.],
                    [200., 220., 50.],
                ];
                let at = 4.0 * index as f64 / count.saturating_sub(1).max(1) as f64;
                let (low, share) = ((at as usize).min(3), at - (at as usize).min(3) as f64);
                let mix =
                    |c: usize| (STOPS[low][c] + share * (STOPS[low + 1][c] - STOPS[low][c])).round() as u8;
                format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
            }
        }
    }
}

/// A value with its error.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Position; a category's index.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Half the error bar.
    pub error: Option<f64>,
}

/// Points of one colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// In drawing order.
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Marks {
    Lines,
    Bars,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    x: Axis,
    y: Axis,
    marks: Marks,
    series: Vec<Series>,
}

impl Panel {
    /// Lines with a dot and an error bar per point.
    pub fn lines(title: &str, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { title: title.to_owned(), x, y, marks: Marks::Lines, series }
    }

    /// Bars grouped by category, with error bars; they stand on zero.
    pub fn bars(title: &str, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { title: title.to_owned(), x, y: y.with_zero(), marks: Marks::Bars, series }
    }
}

/// A whole picture. Panels share the legend: series of one place have one colour and name.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Above all panels.
    pub title: String,
    /// Of the series.
    pub colours: Colours,
    /// Left to right.
    pub panels: Vec<Panel>,
}

impl Figure {
    /// The picture.
    pub fn to_svg(&self) -> String {
        let names: Vec<&str> =
            self.panels.first().map_or(Vec::new(), |p| p.series.iter().map(|s| &*s.name).collect());
        let width = PANEL_WIDTH * self.panels.len() as f64;
        let (legend, legend_height) = self.legend(&names, width);
        let height = PANEL_HEIGHT + legend_height;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
             <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"{x}\" y=\"24\" text-anchor=\"middle\" font-size=\"16\">{title}</text>\n",
            title = escaped(&self.title),
            x = width / 2.0,
        );
        for (i, panel) in self.panels.iter().enumerate() {
            svg += &format!("<g transform=\"translate({} 0)\">\n", PANEL_WIDTH * i as f64);
            panel.draw(self.colours, &mut svg);
            svg += "</g>\n";
        }
        svg += &legend;
        svg += "</svg>\n";
        svg
    }

    fn legend(&self, names: &[&str], width: f64) -> (String, f64) {
        let (mut text, mut x, mut y) = (String::new(), LEFT, PANEL_HEIGHT + 12.0);
        for (i, name) in names.iter().enumerate() {
            // A character is about seven units wide.
            let wide = 34.0 + 7.0 * name.chars().count() as f64;
            if x + wide > width && x > LEFT {
                (x, y) = (LEFT, y + LEGEND_LINE);
            }
            let colour = self.colours.of(i, names.len());
            let _ = writeln!(
                text,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"16\" height=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 6.0,
                x + 21.0,
                escaped(name)
            );
            x += wide;
        }
        (text, if names.is_empty() { 0.0 } else { y + LEGEND_LINE - PANEL_HEIGHT })
    }
}

/// Inner corners of the axes.
const X: (f64, f64) = (LEFT, PANEL_WIDTH - RIGHT);
const Y: (f64, f64) = (PANEL_HEIGHT - BOTTOM, TOP);

impl Panel {
    fn draw(&self, colours: Colours, svg: &mut String) {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let x = self.x.fitted(points().map(|p| p.x));
        let y = self.y.fitted(points().flat_map(|p| {
            let error = p.error.unwrap_or(0.0);
            [p.y - error, p.y, p.y + error]
        }));
        let (middle, bottom) = ((X.0 + X.1) / 2.0, Y.0);
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"13\">{}</text>",
            TOP - 14.0,
            escaped(&self.title)
        );
        for (value, label) in y.ticks() {
            let at = y.place(value, Y);
            let _ = writeln!(
                svg,
                "<path d=\"M{} {at:.2}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.2}\" text-anchor=\"end\">{}</text>",
                X.0,
                X.1,
                X.0 - 6.0,
                at + 4.0,
                escaped(&label)
            );
        }
        for (value, label) in x.ticks() {
            let at = x.place(value, X);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.2} {bottom}v5\" stroke=\"#222\"/>\
                 <text x=\"{at:.2}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escaped(&label)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"#222\"/>\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            X.0,
            X.1,
            bottom + 38.0,
            escaped(x.label()),
            (TOP + bottom) / 2.0,
            escaped(y.label())
        );
        for (i, series) in self.series.iter().enumerate() {
            let colour = colours.of(i, self.series.len());
            match self.marks {
                Marks::Lines => self.draw_line(i, series, &x, &y, &colour, svg),
                Marks::Bars => self.draw_bars(i, series, &x, &y, &colour, svg),
            }
        }
    }

    /// Error bars of several series stand side by side where a category has room for it.
    fn aside(&self, index: usize, x: &Axis) -> f64 {
        let room = if x.is_categories() { 0.4 * x.step(X) } else { 0.0 };
        let n = self.series.len() as f64;
        room * ((index as f64 + 0.5) / n - 0.5)
    }

    fn draw_line(&self, index: usize, series: &Series, x: &Axis, y: &Axis, colour: &str, svg: &mut String) {
        let aside = self.aside(index, x);
        let drawn: Vec<(f64, f64, &Point)> = series
            .points
            .iter()
            .filter(|p| y.shows(p.y))
            .map(|p| (x.place(p.x, X) + aside, y.place(p.y, Y), p))
            .collect();
        let line: Vec<String> = drawn.iter().map(|(x, y, _)| format!("{x:.2},{y:.2}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            line.join(" ")
        );
        for (at, height, p) in &drawn {
            error_bar(*at, p, y, colour, svg);
            let _ = writeln!(svg, "<circle cx=\"{at:.2}\" cy=\"{height:.2}\" r=\"2.5\" fill=\"{colour}\"/>");
        }
    }

    fn draw_bars(&self, index: usize, series: &Series, x: &Axis, y: &Axis, colour: &str, svg: &mut String) {
        let n = self.series.len() as f64;
        let wide = 0.8 * x.step(X) / n;
        for p in series.points.iter().filter(|p| y.shows(p.y)) {
            let middle = x.place(p.x, X) + wide * (index as f64 + 0.5 - n / 2.0);
            let (zero, end) = (y.place(0.0, Y), y.place(p.y, Y));
            let _ = writeln!(
                svg,
                "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{colour}\"/>",
                middle - 0.46 * wide,
                zero.min(end),
                0.92 * wide,
                (zero - end).abs()
            );
            error_bar(middle, p, y, "#222", svg);
        }
    }
}

fn error_bar(at: f64, point: &Point, y: &Axis, colour: &str, svg: &mut String) {
    let Some(error) = point.error.filter(|e| e.is_finite() && *e > 0.0) else { return };
    // On a logarithmic axis the lower end may not exist: the bar then ends at the axis.
    let (low, high) = (y.place(point.y - error, Y), y.place(point.y + error, Y));
    let _ = writeln!(
        svg,
        "<path d=\"M{at:.2} {low:.2}V{high:.2}m-3 0h6\" stroke=\"{colour}\" stroke-width=\"1\" fill=\"none\" \
         opacity=\"0.7\"/>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        let point = |(i, &y): (usize, &f64)| Point { x: i as f64, y, error: Some(0.5) };
        Series { name: name.to_owned(), points: values.iter().enumerate().map(point).collect() }
    }

    fn numbers<'a>(svg: &'a str, attribute: &'a str) -> Vec<f64> {
        svg.split(&format!("{attribute}=\""))
            .skip(1)
            .filter_map(|s| s.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn lines_rise_where_values_do_and_stay_inside() {
        let x = Axis::linear("time");
        let panel = Panel::lines("a & b", x, Axis::log("value"), vec![series("s", &[1.0, 10.0, 100.0])]);
        let svg = Figure { title: "<t>".to_owned(), colours: Colours::Ordered, panels: vec![panel] }.to_svg();
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;t&gt;") && !svg.contains("NaN"), "{svg}");
        let heights = numbers(&svg, "cy");
        assert_eq!(heights.len(), 3);
        // Equal factors are equal distances.
        assert!((2.0 * heights[1] - heights[0] - heights[2]).abs() < 0.02, "{heights:?}");
        assert!(heights[0] > heights[2] && heights.iter().all(|h| (Y.1..=Y.0).contains(h)), "{heights:?}");
        assert!(numbers(&svg, "cx").iter().all(|at| (X.0..=X.1).contains(at)));
    }

    #[test]
    fn bars_stand_on_zero_and_beside_each_other() {
        let x = Axis::categories("", ["one", "two"].map(str::to_owned).to_vec());
        let all = vec![series("a", &[4.0, 2.0]), series("b", &[-1.0, 3.0])];
        let panel = Panel::bars("bars", x, Axis::linear("return"), all);
        let svg = Figure { title: String::new(), colours: Colours::Distinct, panels: vec![panel] }.to_svg();
        let bars: Vec<&str> =
            svg.lines().filter(|l| l.starts_with("<rect x=") && !l.contains("<text")).collect();
        assert_eq!(bars.len(), 4);
        let part = |i: usize, name: &str| numbers(bars[i], name)[0];
        // a's first and second bar, b's first and second.
        assert!((part(0, " height") - 2.0 * part(1, " height")).abs() < 0.05);
        assert!(
            (part(0, " y") + part(0, " height") - part(2, " y")).abs() < 0.02,
            "one ends and one begins at zero"
        );
        assert!(part(2, " x") >= part(0, " x") + part(0, " width"), "no bar hides another");
        assert!(part(1, " x") > part(2, " x") + part(2, " width"));
    }

    #[test]
    fn nothing_to_draw_is_no_reason_to_fail() {
        for values in [&[][..], &[f64::NAN], &[0.0], &[-1.0, 0.0]] {
            for y in [Axis::linear(""), Axis::log("")] {
                let panel = Panel::lines("", Axis::linear(""), y, vec![series("s", values)]);
                let svg =
                    Figure { title: String::new(), colours: Colours::Ordered, panels: vec![panel] }.to_svg();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{values:?}: {svg}");
            }
        }
    }
}
