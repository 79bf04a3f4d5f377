//! Checkpoints: the whole learner in one file, written atomically, checked when it is read.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::Trainer;

/// First bytes of every version.
const MAGIC: &[u8; 6] = b"SWCKPT";
/// Version written, and the only one that is read.
const VERSION: &[u8; 2] = b"04";
const DIGEST_BYTES: usize = 32;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or its folder.
    #[error("checkpoint {path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Cut off, changed, or no checkpoint at all.
    #[error("checkpoint {path} is damaged ({reason}); an older one may be whole")]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Written by another version of this program.
    #[error(
        "checkpoint {path} is of format version {found}, this program reads version {}; go on with the version of the \
         program that wrote it, or start a new run",
        String::from_utf8_lossy(VERSION)
    )]
    Version {
        /// File.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The learner cannot be serialised.
    #[error("checkpoint {path}: {reason}")]
    Encode {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Writes bytes to a file so that it is there whole or not at all: a temporary file, synced, then renamed.
///
/// # Errors
/// When the folder cannot be written, or the disk is full; an older file stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_atomically_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomically`], from a function that writes.
///
/// # Errors
/// As [`write_atomically`], and what the function returns.
pub fn write_atomically_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    // As any other new file: readable by whom the user's mask says, not by the user alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = BufWriter::with_capacity(1 << 20, builder.tempfile_in(folder)?);
    write(&mut file)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    // The rename itself must reach the disk too.
    fs::File::open(folder)?.sync_all()
}

/// Hashes what is written through it.
struct Hashing<'a> {
    to: &'a mut dyn Write,
    hash: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

impl Trainer {
    /// Saves the whole learner. It is written as it is serialised, so that a large replay buffer is not copied first.
    ///
    /// # Errors
    /// When it cannot be written; an older checkpoint of that name stays.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_owned(), source };
        write_atomically_with(path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(VERSION)?;
            let hash = self.write_to(file)?;
            file.write_all(&hash)
        })
        .map_err(io)
    }

    /// Serialises the learner; returns the hash of what was written.
    fn write_to(&self, to: &mut dyn Write) -> std::io::Result<[u8; DIGEST_BYTES]> {
        // postcard says no more of a writer's error than that there was one, so it is kept here.
        let mut kept = Kept { to, error: None };
        let mut hashing = Hashing { to: &mut kept, hash: Sha256::new() };
        let result = postcard::to_io(self, &mut hashing).map(|_| ()).map_err(std::io::Error::other);
        let hash = hashing.hash.finalize().into();
        match (kept.error, result) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(hash),
        }
    }

    /// Loads a learner; it goes on as if it had never stopped.
    ///
    /// # Errors
    /// When the file cannot be read, is of another version or is damaged.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
        let damaged =
            |reason: &str| CheckpointError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is no checkpoint"))?;
        let (version, rest) = rest.split_at_checked(VERSION.len()).ok_or_else(|| damaged("it is cut off"))?;
        if version != VERSION {
            let found = String::from_utf8_lossy(version).into_owned();
            return Err(CheckpointError::Version { path: path.to_owned(), found });
        }
        let (body, digest) = rest
            .len()
            .checked_sub(DIGEST_BYTES)
            .and_then(|at| rest.split_at_checked(at))
            .ok_or_else(|| damaged("it is cut off"))?;
        if Sha256::digest(body).as_slice() != digest {
            return Err(damaged("its checksum does not match"));
        }
        postcard::from_bytes(body).map_err(|e| damaged(&e.to_string()))
    }

    /// Hash of weights, moments, replay buffer and random numbers: equal learners have equal hashes.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn fingerprint(&self) -> Result<String, CheckpointError> {
        let hash = self
            .write_to(&mut std::io::sink())
            .map_err(|e| CheckpointError::Encode { path: PathBuf::new(), reason: e.to_string() })?;
        Ok(hash.iter().map(|b| format!("{b:02x}")).collect())
    }
}

/// Keeps a writer's error.
struct Kept<'a> {
    to: &'a mut dyn Write,
    error: Option<std::io::Error>,
}

impl Write for Kept<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.write(bytes).inspect_err(|e| self.error = Some(e.kind().into()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// The checkpoints in a folder (`checkpoint-N.bin`), the newest first.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let number = name.strip_prefix("checkpoint-")?.strip_suffix(".bin")?.parse().ok()?;
            Some((number, path))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Name of the checkpoint after so many updates.
pub fn path(folder: &Path, updates: u64) -> PathBuf {
    folder.join(format!("checkpoint-{updates:09}.bin"))
}
