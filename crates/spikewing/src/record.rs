//! `spikewing record`: the recorder as a command, and the end for a bag that has none.

use std::path::PathBuf;

use clap::Args;
use spikewing_bag::mend;
use spikewing_rl::checkpoint::write_atomically;

use crate::Failure;

/// Record the topics of a running flight into a bag (MCAP) until Ctrl-C; or give a cut bag its end
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The bag; one that exists stays, and the next has a number
    #[arg(default_value = "flight.mcap")]
    file: PathBuf,
    /// Also the drones of a fleet: /drone_0, /drone_1 and so on
    #[arg(long, default_value_t = 0)]
    drones: u8,
    /// A file of that size is ended and the next begun, MB
    #[arg(long, default_value_t = 500)]
    file_mb: u32,
    /// So many files are kept
    #[arg(long, default_value_t = 20)]
    files: u32,
    /// Instead: writes what this bag holds into FILE with the index that every reader opens; for a recorder that was killed
    #[arg(long, value_name = "BAG")]
    mend: Option<PathBuf>,
    /// ROS arguments of the node `recorder`: --ros-args -r __ns:=/drone_1 -p …
    #[arg(last = true)]
    ros: Vec<String>,
}

impl RecordArgs {
    /// Whether topics are recorded.
    pub fn is_live(&self) -> bool {
        self.mend.is_none()
    }

    /// The command line of the node.
    pub fn arguments(&self, log_level: &str) -> Vec<String> {
        // A path is a text, whatever it looks like.
        let file = format!("file:={}", serde_yaml::to_string(&self.file).unwrap_or_default().trim());
        let mut all: Vec<String> =
            ["--ros-args", "--log-level", log_level, "-p", &file].map(Into::into).into();
        let numbers = [("drones", u32::from(self.drones)), ("file_mb", self.file_mb), ("files", self.files)];
        for (name, value) in numbers {
            all.extend(["-p".to_owned(), format!("{name}:={value}")]);
        }
        all.extend(self.ros.clone());
        all
    }

    /// Gives a bag its end.
    pub fn mend(&self) -> Result<(), Failure> {
        let Some(from) = &self.mend else { return Ok(()) };
        let (from, to) = (from.display(), self.file.display());
        if self.file.exists() {
            return Err(format!("{to} exists: name another file to write").into());
        }
        let bytes = std::fs::read(from.to_string()).map_err(|e| format!("{from}: {e}"))?;
        let mended = mend(&bytes, Vec::new()).map_err(|e| format!("{from}: {e}"))?;
        write_atomically(&self.file, &mended.out).map_err(|e| format!("{to}: {e}"))?;
        if let Some(rest) = mended.rest {
            eprintln!("{from}: {rest}; what stands before it is kept");
        }
        eprintln!("wrote {to}: {} messages", mended.messages);
        Ok(())
    }
}
