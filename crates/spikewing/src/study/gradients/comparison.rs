//! A measured table beside a reference.

use std::fmt::Write;

use crate::Failure;

use super::table::Table;

/// Per layer: how the magnitude falls with k (the exponent of the fitted power), and over the slopes that both have, the
/// ratio of the magnitudes and the difference of the cosines.
pub fn compare(table: &Table, reference: &Table) -> Result<String, Failure> {
    let mut text = format!(
        "{:>8} {:>18} {:>18} {:>21} {:>20} {:>18}\n",
        "layer",
        "magnitude ~ k^",
        "reference ~ k^",
        "magnitude ratio",
        "cosine difference",
        "firing rate ratio"
    );
    let shared = |layer: usize| {
        let rows = table.rows().iter().filter(move |r| r.layer == layer);
        rows.filter_map(|r| Some((r, reference.row(r.slope, r.layer)?)))
    };
    for layer in table.layers() {
        let mut ratio = (f64::INFINITY, f64::NEG_INFINITY);
        let mut cosine = 0.0f64;
        let mut rate = None;
        for (ours, theirs) in shared(layer) {
            let r = ours.magnitude / theirs.magnitude;
            ratio = (ratio.0.min(r), ratio.1.max(r));
            cosine = cosine.max((ours.cosine - theirs.cosine).abs());
            rate = ours.firing_rate.zip(theirs.firing_rate).map(|(a, b)| a / b);
        }
        if ratio.0 > ratio.1 {
            return Err(format!("the reference has none of the measured slopes in layer {layer}").into());
        }
        let rate = rate.map_or_else(String::new, |r| format!("{r:.2}"));
        writeln!(
            text,
            "{layer:>8} {:>18.2} {:>18.2} {:>21} {:>20} {rate:>18}",
            table.exponent(layer),
            reference.exponent(layer),
            format!("{:.2} to {:.2}", ratio.0, ratio.1),
            format!("at most {cosine:.3}"),
        )?;
    }
    Ok(text)
}
