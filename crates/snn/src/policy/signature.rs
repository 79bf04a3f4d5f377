//! Ed25519 signatures of policies.

use super::metadata::{bad, short};
use super::{Policy, PolicyError};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand::CryptoRng;
use std::collections::BTreeMap;
use std::fmt;

/// Put before the digest, so that a signature made for something else never fits a policy.
const DOMAIN: &[u8] = b"spikewing policy 1\0";

/// Who may sign. Written as 64 hexadecimal digits.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from a cryptographically secure generator.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// # Errors
    /// [`PolicyError::Key`] when it is not 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, PolicyError> {
        Ok(Self(SigningKey::from_bytes(&key_bytes(text)?)))
    }

    /// To be kept secret.
    pub fn to_hex(&self) -> String {
        hex(self.0.as_bytes())
    }

    /// The key others check with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// Whose signatures to trust. Written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// # Errors
    /// [`PolicyError::Key`] when it is not 64 hexadecimal digits or no point of the curve.
    pub fn from_hex(text: &str) -> Result<Self, PolicyError> {
        let key = VerifyingKey::from_bytes(&key_bytes(text)?);
        key.map(Self).map_err(|_| PolicyError::Key { reason: "it is not a point of the Ed25519 curve" })
    }

    /// Whether this key's owner signed this message.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

/// A signature as it lies in a file: not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    signer: [u8; 32],
    bytes: [u8; 64],
}

impl Signature {
    /// The public key it claims, in hex.
    pub fn signer(&self) -> String {
        hex(&self.signer)
    }

    pub(super) fn write(&self, map: &mut BTreeMap<String, String>) {
        map.insert("signer".to_owned(), self.signer());
        map.insert("signature".to_owned(), hex(&self.bytes));
    }

    /// Takes both entries out of a file's metadata.
    pub(super) fn read(map: &mut BTreeMap<String, String>) -> Result<Option<Self>, PolicyError> {
        match (map.remove("signer"), map.remove("signature")) {
            (None, None) => Ok(None),
            (Some(signer), Some(signature)) => {
                let (Some(key), Some(bytes)) = (unhex(&signer), unhex(&signature)) else {
                    return Err(bad(
                        "signature",
                        &signature,
                        "signer and signature must be 64 and 128 hex digits",
                    ));
                };
                Ok(Some(Self { signer: key, bytes }))
            }
            (None, Some(_)) => Err(PolicyError::MissingMetadata { key: "signer" }),
            (Some(_), None) => Err(PolicyError::MissingMetadata { key: "signature" }),
        }
    }
}

impl Policy {
    /// Signs metadata, tensors and self-test as they are now; changing any of them afterwards voids it.
    pub fn sign(&mut self, key: &SecretKey) {
        let bytes = key.sign(&self.message());
        self.signature = Some(Signature { signer: key.0.verifying_key().to_bytes(), bytes });
    }

    /// Checks that one of `trusted_keys` signed this content.
    ///
    /// # Errors
    /// [`PolicyError::Unsigned`], [`PolicyError::UntrustedSigner`], [`PolicyError::BadSignature`].
    pub fn verify_signature(&self, trusted_keys: &[PublicKey]) -> Result<(), PolicyError> {
        let signature = self.signature.as_ref().ok_or(PolicyError::Unsigned)?;
        let signer = signature.signer();
        let Some(key) = trusted_keys.iter().find(|k| k.0.as_bytes() == &signature.signer) else {
            return Err(PolicyError::UntrustedSigner { signer });
        };
        match key.signed(&self.message(), &signature.bytes) {
            true => Ok(()),
            false => Err(PolicyError::BadSignature { signer }),
        }
    }

    fn message(&self) -> Vec<u8> {
        [DOMAIN, &self.digest()].concat()
    }
}

fn key_bytes(text: &str) -> Result<[u8; 32], PolicyError> {
    unhex(text.trim()).ok_or(PolicyError::Key { reason: "it has another length or other characters" })
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// sha256 of a file's bytes, lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

/// The sha256 that 64 lower-case hexadecimal digits mean.
///
/// # Errors
/// [`PolicyError::DigestText`].
pub fn sha256_of_hex(text: &str) -> Result<[u8; 32], PolicyError> {
    // One digest, one text: what is announced can be compared as it is.
    let lower = !text.contains(|c: char| c.is_ascii_uppercase());
    unhex(text).filter(|_| lower).ok_or_else(|| PolicyError::DigestText { text: short(text) })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::try_from(16 * digit(pair[0])? + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}
