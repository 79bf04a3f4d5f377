//! Checkpoints: the whole learner in one file, written atomically, checked when it is read.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::Trainer;

const MAGIC: &[u8; 8] = b"SWCKPT01";
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
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    // The rename itself must reach the disk too.
    fs::File::open(folder)?.sync_all()
}

impl Trainer {
    /// Saves the whole learner.
    ///
    /// # Errors
    /// When it cannot be written; an older checkpoint of that name stays.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let body = postcard::to_allocvec(self)
            .map_err(|e| CheckpointError::Encode { path: path.to_owned(), reason: e.to_string() })?;
        let mut bytes = Vec::with_capacity(MAGIC.len() + DIGEST_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&Sha256::digest(&body));
        bytes.extend_from_slice(&body);
        write_atomically(path, &bytes).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
    }

    /// Loads a learner; it goes on as if it had never stopped.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
        let damaged =
            |reason: &str| CheckpointError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is no checkpoint of this version"))?;
        let (digest, body) = rest.split_at_checked(DIGEST_BYTES).ok_or_else(|| damaged("it is cut off"))?;
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
        let body = postcard::to_allocvec(self)
            .map_err(|e| CheckpointError::Encode { path: PathBuf::new(), reason: e.to_string() })?;
        Ok(Sha256::digest(&body).iter().map(|b| format!("{b:02x}")).collect())
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
