//! Metrics of a run: a CSV file and TensorBoard event files, both appended row by row.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Why metrics cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("metrics {path}: {source}")]
pub struct MetricsError {
    /// File.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Writes rows of named numbers to `metrics.csv` and an event file.
#[derive(Debug)]
pub struct Metrics {
    columns: Vec<&'static str>,
    csv: BufWriter<File>,
    csv_path: PathBuf,
    events: BufWriter<File>,
    events_path: PathBuf,
}

impl Metrics {
    /// Opens (or goes on with) the metrics in a folder. `columns` are the numbers of a row, after `step` and `time_s`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(folder: &Path, columns: &[&'static str], wall_time_s: f64) -> Result<Self, MetricsError> {
        let csv_path = folder.join("metrics.csv");
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| MetricsError { path, source }
        };
        std::fs::create_dir_all(folder).map_err(fail(folder))?;
        let mut csv =
            OpenOptions::new().create(true).append(true).open(&csv_path).map_err(fail(&csv_path))?;
        if csv.metadata().map_err(fail(&csv_path))?.len() == 0 {
            writeln!(csv, "step,time_s,{}", columns.join(",")).map_err(fail(&csv_path))?;
        }
        let seconds = wall_time_s.max(0.0) as u64;
        let events_path = folder.join(format!("events.out.tfevents.{seconds}.spikewing"));
        let file =
            OpenOptions::new().create(true).append(true).open(&events_path).map_err(fail(&events_path))?;
        let fresh = file.metadata().map_err(fail(&events_path))?.len() == 0;
        let mut events = BufWriter::new(file);
        if fresh {
            let version = event(wall_time_s, 0, |body| field_bytes(body, 3, b"brain.Event:2"));
            write_record(&mut events, &version).map_err(fail(&events_path))?;
        }
        Ok(Self { columns: columns.to_vec(), csv: BufWriter::new(csv), csv_path, events, events_path })
    }

    /// Appends one row; `values` in the order of the columns. Numbers that are not finite are left empty in the CSV
    /// and out of the event file.
    ///
    /// # Errors
    /// When a file cannot be written, the disk being full for example.
    pub fn write(
        &mut self,
        step: u64,
        time_s: f64,
        wall_time_s: f64,
        values: &[f64],
    ) -> Result<(), MetricsError> {
        let cells: Vec<String> =
            values.iter().map(|v| if v.is_finite() { v.to_string() } else { String::new() }).collect();
        writeln!(self.csv, "{step},{time_s:.3},{}", cells.join(","))
            .and_then(|()| self.csv.flush())
            .map_err(|source| MetricsError { path: self.csv_path.clone(), source })?;
        let record = event(wall_time_s, step, |body| {
            let mut summary = Vec::new();
            for (name, value) in self.columns.iter().zip(values).filter(|(_, v)| v.is_finite()) {
                let mut entry = Vec::new();
                field_bytes(&mut entry, 1, name.as_bytes());
                entry.push(2 << 3 | 5);
                entry.extend_from_slice(&(*value as f32).to_le_bytes());
                field_bytes(&mut summary, 1, &entry);
            }
            field_bytes(body, 5, &summary);
        });
        write_record(&mut self.events, &record)
            .and_then(|()| self.events.flush())
            .map_err(|source| MetricsError { path: self.events_path.clone(), source })
    }
}

/// Drops the rows of `metrics.csv` in a folder whose `column` is beyond `limit`, and a last one that was cut off.
///
/// # Errors
/// When the file is there but cannot be read or written.
pub fn keep_up_to(folder: &Path, column: &str, limit: f64) -> Result<(), MetricsError> {
    keep_rows_up_to(&folder.join("metrics.csv"), column, limit)
}

/// The same for any table with a line of column names that grows row by row while a run goes on.
///
/// # Errors
/// When the file is there but cannot be read or written.
pub fn keep_rows_up_to(path: &Path, column: &str, limit: f64) -> Result<(), MetricsError> {
    let fail = |source| MetricsError { path: path.to_owned(), source };
    // A pipe or a device holds no rows, and may never end.
    if !path.is_file() {
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    let mut lines = text.split_inclusive('\n');
    let header = lines.next().unwrap_or_default().trim_end();
    let Some(index) = header.split(',').position(|h| h == column) else { return Ok(()) };
    let (mut kept, width) = (format!("{header}\n"), header.split(',').count());
    for line in lines.filter(|line| line.ends_with('\n')) {
        let cells: Vec<&str> = line.trim_end().split(',').collect();
        let within = cells.get(index).and_then(|c| c.parse::<f64>().ok()).is_some_and(|v| v <= limit);
        if within && cells.len() == width {
            kept.push_str(line);
        }
    }
    if kept == text {
        return Ok(());
    }
    crate::checkpoint::write_atomically(path, kept.as_bytes()).map_err(fail)
}

/// A TensorFlow `Event` in protobuf: wall_time (1, double), step (2, int64), and the field that `fill` adds.
fn event(wall_time_s: f64, step: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    body.push(1 << 3 | 1);
    body.extend_from_slice(&wall_time_s.to_le_bytes());
    body.push(2 << 3);
    varint(&mut body, step);
    fill(&mut body);
    body
}

fn field_bytes(into: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    into.push(field << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A TFRecord: length, its checksum, body, its checksum.
fn write_record(into: &mut impl Write, body: &[u8]) -> std::io::Result<()> {
    let length = (body.len() as u64).to_le_bytes();
    into.write_all(&length)?;
    into.write_all(&masked_crc(&length).to_le_bytes())?;
    into.write_all(body)?;
    into.write_all(&masked_crc(body).to_le_bytes())
}

/// CRC-32C, rotated and offset as TFRecord wants it.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an event file back, independently of the writer: (step, name, value).
    fn read(bytes: &[u8]) -> Vec<(u64, String, f32)> {
        fn varint(b: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = b[0];
                *b = &b[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return value;
                }
                shift += 7;
            }
        }
        let mut found = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(rest[8..12].try_into().unwrap()), masked_crc(&rest[..8]));
            let mut body = &rest[12..12 + length];
            let crc = u32::from_le_bytes(rest[12 + length..16 + length].try_into().unwrap());
            assert_eq!(crc, masked_crc(body));
            rest = &rest[16 + length..];
            assert_eq!(body[0], 9);
            body = &body[9..];
            assert_eq!(body[0], 16);
            body = &body[1..];
            let step = varint(&mut body);
            let tag = body[0];
            body = &body[1..];
            let n = varint(&mut body) as usize;
            let mut summary = &body[..n];
            if tag != 5 << 3 | 2 {
                continue;
            }
            while !summary.is_empty() {
                assert_eq!(summary[0], 10);
                summary = &summary[1..];
                let n = varint(&mut summary) as usize;
                let mut value = &summary[..n];
                summary = &summary[n..];
                value = &value[1..];
                let n = varint(&mut value) as usize;
                let name = String::from_utf8(value[..n].to_vec()).unwrap();
                value = &value[n..];
                assert_eq!(value[0], 0x15);
                found.push((step, name, f32::from_le_bytes(value[1..5].try_into().unwrap())));
            }
        }
        found
    }

    #[test]
    fn rows_can_be_read_back_from_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let columns = ["return", "slope"];
        let mut metrics = Metrics::open(folder.path(), &columns, 1e9).unwrap();
        metrics.write(3, 0.5, 1e9 + 1.0, &[12.5, f64::NAN]).unwrap();
        drop(metrics);
        let mut again = Metrics::open(folder.path(), &columns, 1e9).unwrap();
        again.write(300, 1.5, 1e9 + 2.0, &[13.0, 2.0]).unwrap();
        let csv = std::fs::read_to_string(folder.path().join("metrics.csv")).unwrap();
        assert_eq!(csv, "step,time_s,return,slope\n3,0.500,12.5,\n300,1.500,13,2\n");
        let events = std::fs::read(folder.path().join("events.out.tfevents.1000000000.spikewing")).unwrap();
        let expected = [
            (3, "return".to_owned(), 12.5),
            (300, "return".to_owned(), 13.0),
            (300, "slope".to_owned(), 2.0),
        ];
        assert_eq!(read(&events), expected);
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // Check value of CRC-32C.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Metrics::open(&file.path().join("x"), &["a"], 0.0).unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()));
    }
}
