//! What a learner signs when it publishes: that *this version* is *this file*.
//!
//! A signature inside the file ([`Policy::sign`](super::Policy::sign)) says who made the weights. It does not say when they are
//! to fly: whoever recorded an old file could announce it again under a newer version. So an update carries a signature of
//! its own over version, parent and the file's sha256. It can be checked before the file is looked at.

use super::PolicyError;
use super::signature::{PublicKey, SecretKey};

/// Put first, so that a signature made for something else never fits an announcement.
const DOMAIN: &[u8] = b"spikewing update 1\0";

/// Versions above this are refused whoever signed them: counting there takes longer than any learner runs.
pub const LAST_VERSION: u64 = 1 << 62;

/// An update as it is announced, without its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Counts up.
    pub version: u64,
    /// The version it was trained from.
    pub parent_version: u64,
    /// Of the file's bytes.
    pub sha256: [u8; 32],
}

impl Announcement {
    /// Ed25519 over `spikewing update 1`, a zero byte, version and parent (8 bytes each, little-endian) and the sha256.
    pub fn sign(&self, key: &SecretKey) -> [u8; 64] {
        key.sign(&self.message())
    }

    /// Which of `trusted_keys` signed it.
    ///
    /// # Errors
    /// [`PolicyError::UnsignedUpdate`] without a signature, [`PolicyError::UpdateSignature`] when none of the keys made it.
    pub fn verify(&self, signature: &[u8], trusted_keys: &[PublicKey]) -> Result<PublicKey, PolicyError> {
        if signature.is_empty() {
            return Err(PolicyError::UnsignedUpdate);
        }
        let message = self.message();
        let made_it =
            |key: &&PublicKey| <&[u8; 64]>::try_from(signature).is_ok_and(|s| key.signed(&message, s));
        trusted_keys.iter().find(made_it).copied().ok_or(PolicyError::UpdateSignature)
    }

    fn message(&self) -> Vec<u8> {
        [DOMAIN, &self.version.to_le_bytes(), &self.parent_version.to_le_bytes(), &self.sha256].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNOUNCEMENT: Announcement = Announcement { version: 7, parent_version: 6, sha256: [9; 32] };

    fn key(digit: &str) -> SecretKey {
        SecretKey::from_hex(&digit.repeat(64)).unwrap()
    }

    #[test]
    fn the_key_that_signed_it_is_found_among_those_trusted() {
        let (learner, other) = (key("1"), key("2"));
        let signature = ANNOUNCEMENT.sign(&learner);
        let trusted = [other.public(), learner.public()];
        assert_eq!(ANNOUNCEMENT.verify(&signature, &trusted).unwrap(), learner.public());
        for (signature, trusted) in
            [(&signature[..], &trusted[..1]), (&signature[..63], &trusted), (&signature, &[])]
        {
            let error = ANNOUNCEMENT.verify(signature, trusted).unwrap_err();
            assert!(matches!(error, PolicyError::UpdateSignature), "{error}");
        }
        assert!(matches!(ANNOUNCEMENT.verify(&[], &trusted), Err(PolicyError::UnsignedUpdate)));
    }

    #[test]
    fn a_signature_fits_one_version_of_one_file_only() {
        let learner = key("1");
        let signature = ANNOUNCEMENT.sign(&learner);
        for other in [
            Announcement { version: 8, ..ANNOUNCEMENT },
            Announcement { parent_version: 5, ..ANNOUNCEMENT },
            Announcement { sha256: [8; 32], ..ANNOUNCEMENT },
        ] {
            assert!(other.verify(&signature, &[learner.public()]).is_err(), "{other:?}");
        }
    }
}
