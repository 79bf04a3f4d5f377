//! Keys as files: the secret one for its owner alone, the public one for whoever trusts it.

use super::PolicyError;
use super::signature::{PublicKey, SecretKey};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Longer files are no keys.
const LONGEST: u64 = 256;

/// Where the public key of a secret one lies: beside it, ending in `.pub`.
pub fn public_path(secret: &Path) -> PathBuf {
    secret.with_extension("pub")
}

impl SecretKey {
    /// The key in a file, or a new one, written there (mode 0600) with its public key beside it ([`public_path`]).
    ///
    /// A key that is there is never replaced: whoever trusts it would no longer know its owner. Both files appear whole or
    /// not at all, also when two processes make them at once or one is killed.
    ///
    /// # Errors
    /// [`PolicyError::KeyFile`] when the file cannot be read or written, holds no key, or may be read by others.
    pub fn load_or_create(path: &Path) -> Result<Self, PolicyError> {
        let key = match Self::load(path) {
            Ok(key) => key,
            Err(_) if !path.try_exists().unwrap_or(true) => {
                let key = Self::generate(&mut rand::rng());
                match write(path, &key.to_hex(), 0o600, Existing::Keep) {
                    Ok(()) => key,
                    // Somebody else made one meanwhile: it is the one.
                    Err(_) if path.exists() => Self::load(path)?,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let (public, beside) = (key.public(), public_path(path));
        if !PublicKey::load(&beside).is_ok_and(|there| there == public) {
            write(&beside, &public.to_string(), 0o644, Existing::Replace)?;
        }
        Ok(key)
    }

    /// The key in a file.
    ///
    /// # Errors
    /// [`PolicyError::KeyFile`] when the file cannot be read, holds no key, or may be read by others.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |reason: String| PolicyError::KeyFile { path: path.to_owned(), reason };
        #[cfg(unix)]
        if let Ok(metadata) = std::fs::metadata(path) {
            use std::os::unix::fs::PermissionsExt;
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(failed(format!(
                    "others than its owner may use it (mode {mode:o}): `chmod 600` it, or move it away to have a new key made"
                )));
            }
        }
        let text = read(path)?;
        Self::from_hex(&text).map_err(|e| failed(format!("{e}; move it away to have a new key made")))
    }
}

impl PublicKey {
    /// The key in a file.
    ///
    /// # Errors
    /// [`PolicyError::KeyFile`] when the file cannot be read or holds no key.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |e: PolicyError| PolicyError::KeyFile { path: path.to_owned(), reason: e.to_string() };
        Self::from_hex(&read(path)?).map_err(failed)
    }
}

fn read(path: &Path) -> Result<String, PolicyError> {
    let failed = |e: std::io::Error| PolicyError::KeyFile { path: path.to_owned(), reason: e.to_string() };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Keep,
    Replace,
}

/// Writes a line that is whole or not there at all, also after a power cut.
fn write(path: &Path, line: &str, mode: u32, existing: Existing) -> Result<(), PolicyError> {
    let failed = |e: std::io::Error| PolicyError::KeyFile { path: path.to_owned(), reason: e.to_string() };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".key-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    writeln!(file, "{line}").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match existing {
        Existing::Keep => file.persist_noclobber(path).map_err(|e| failed(e.error))?,
        Existing::Replace => file.persist(path).map_err(|e| failed(e.error))?,
    };
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/learner.key");
        let made = SecretKey::load_or_create(&path).unwrap();
        assert_eq!(SecretKey::load_or_create(&path).unwrap().public(), made.public());
        assert_eq!(PublicKey::load(&public_path(&path)).unwrap(), made.public());
        // A public key that is lost or another's is written anew; the secret one stays.
        std::fs::write(public_path(&path), "not a key").unwrap();
        assert_eq!(SecretKey::load_or_create(&path).unwrap().public(), made.public());
        assert_eq!(PublicKey::load(&public_path(&path)).unwrap(), made.public());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn many_at_once_make_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.key");
        let make = || SecretKey::load_or_create(&path).unwrap().public();
        let keys: Vec<PublicKey> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8).map(|_| s.spawn(make)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]), "{keys:?}");
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.key");
        write(&path, "0123", 0o600, Existing::Keep).unwrap();
        let error = SecretKey::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("learner.key") && error.contains("move it away"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0123\n");
    }

    #[cfg(unix)]
    #[test]
    fn the_secret_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.key");
        SecretKey::load_or_create(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = SecretKey::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("644"), "{error}");
    }
}
