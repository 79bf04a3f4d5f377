//! Rows spread over cores so that results do not depend on how many there are.
//!
//! The rows of a batch are cut into chunks, and the chunks are dealt to a number of lanes that depends only on the number
//! of rows. A lane goes through its chunks in order, on whichever thread takes it, and adds up what it is to add up; the
//! caller adds the lanes' sums in lane order.

use std::ops::Range;

use rayon::prelude::*;

/// Rows that are computed together at most: few enough for a layer's activations to stay in a core's cache.
const LARGEST_CHUNK: usize = 256;
/// … and at least, while there are that many: enough for a matrix product to be worth its call.
const SMALLEST_CHUNK: usize = 64;

/// Lanes at most: more than that many cores are not used, and each has its own sums.
const LANES: usize = 16;

/// Rows that are computed together in a batch of so many.
fn chunk_of(rows: usize) -> usize {
    (rows / 8).next_multiple_of(32).clamp(SMALLEST_CHUNK, LARGEST_CHUNK)
}

/// The rows of each lane; contiguous, and whole chunks but for the last.
fn lanes(rows: usize) -> Vec<Range<usize>> {
    let chunk = chunk_of(rows);
    let chunks = rows.div_ceil(chunk);
    let lanes = chunks.min(LANES);
    (0..lanes)
        .map(|lane| {
            let at = |lane: usize| (lane * chunks / lanes * chunk).min(rows);
            at(lane)..at(lane + 1)
        })
        .collect()
}

/// The chunks, in order, of a lane of a batch of `rows`.
pub fn chunks(lane: Range<usize>, rows: usize) -> impl Iterator<Item = Range<usize>> {
    let chunk = chunk_of(rows);
    lane.clone().step_by(chunk).map(move |first| first..(first + chunk).min(lane.end))
}

/// Runs `work` for every lane, each with its own state and its own part of `out` (`width` numbers for each row), in
/// parallel. `states` grows to the number of lanes; returns how many were used.
///
/// # Errors
/// The first lane's error.
pub fn run<S, E>(
    rows: usize,
    width: usize,
    out: &mut [f32],
    states: &mut Vec<S>,
    work: impl Fn(&mut S, Range<usize>, &mut [f32]) -> Result<(), E> + Sync,
) -> Result<usize, E>
where
    S: Default + Send,
    E: Send,
{
    let lanes = lanes(rows);
    states.resize_with(lanes.len().max(states.len()), S::default);
    let mut rest = out;
    let mut jobs = Vec::with_capacity(lanes.len());
    for (lane, state) in lanes.iter().zip(states.iter_mut()) {
        let (part, after) = rest.split_at_mut(lane.len() * width);
        rest = after;
        jobs.push((lane.clone(), state, part));
    }
    jobs.into_par_iter().try_for_each(|(lane, state, part)| work(state, lane, part))?;
    Ok(lanes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_chunk_of_one_lane() {
        for rows in [0, 1, 255, 256, 257, 512, 4096, 4097, 12_800, 25_600] {
            let lanes = lanes(rows);
            let chunks = || lanes.iter().cloned().flat_map(|lane| chunks(lane, rows));
            assert!(chunks().flatten().eq(0..rows), "{rows}");
            assert!(lanes.len() <= LANES && lanes.iter().all(|lane| !lane.is_empty()));
            assert!(chunks().all(|c| c.len() <= LARGEST_CHUNK));
        }
    }

    #[test]
    fn each_lane_writes_its_own_rows() {
        let mut out = vec![0.0; 2 * 1000];
        let mut states: Vec<usize> = Vec::new();
        let used = run(1000, 2, &mut out, &mut states, |state, lane, part| {
            *state += lane.len();
            for (row, part) in lane.zip(part.chunks_exact_mut(2)) {
                part.fill(row as f32);
            }
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(states[..used].iter().sum::<usize>(), 1000);
        assert!(out.chunks_exact(2).enumerate().all(|(i, row)| row == [i as f32; 2]));
        assert!(run(10, 0, &mut [], &mut states, |_, _, _| Err(())).is_err());
    }
}
