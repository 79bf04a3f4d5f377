//! CDR, the encoding of ROS 2 messages on DDS (plain CDR version 1, four-byte encapsulation header).
//!
//! The body is encoded by the `cdr-encoding` crate; this module adds the header, refuses what is left over or cut
//! off, and turns every failure into an error.

use crate::Message;

/// Little-endian plain CDR.
const HEADER_LITTLE_ENDIAN: [u8; 4] = [0, 1, 0, 0];
const HEADER_BYTES: usize = 4;

/// Why bytes are not the message they were said to be.
#[derive(Debug, thiserror::Error)]
pub enum CdrError {
    /// Fewer bytes than the header has.
    #[error("{ty}: {length} bytes are too few for a CDR header (4)")]
    NoHeader {
        /// Expected ROS type.
        ty: &'static str,
        /// Bytes that there were.
        length: usize,
    },
    /// Another representation than plain CDR version 1.
    #[error("{ty}: unknown CDR representation {identifier:#06x}; plain CDR (0x0000 or 0x0001) is expected")]
    Representation {
        /// Expected ROS type.
        ty: &'static str,
        /// The two identifier bytes.
        identifier: u16,
    },
    /// The body does not hold the message.
    #[error("{ty}: malformed CDR: {reason}")]
    Malformed {
        /// Expected ROS type.
        ty: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// Bytes follow that are neither the message nor its padding.
    #[error("{ty}: {extra} bytes follow the message; is the sender built with another definition?")]
    TrailingBytes {
        /// Expected ROS type.
        ty: &'static str,
        /// Bytes left over.
        extra: usize,
    },
    /// The message cannot be encoded.
    #[error("{ty}: cannot encode: {reason}")]
    Encode {
        /// ROS type.
        ty: &'static str,
        /// The encoder's words.
        reason: String,
    },
}

/// Encodes with the header, little endian.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, CdrError> {
    let body = cdr_encoding::to_vec::<M, byteorder::LittleEndian>(message)
        .map_err(|e| CdrError::Encode { ty: M::TYPE, reason: e.to_string() })?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&HEADER_LITTLE_ENDIAN);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Decodes bytes with their header. Padding of up to three bytes behind the message is accepted: some DDS
/// implementations round the payload up to four bytes.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, CdrError> {
    let (message, used) = prefix::<M>(bytes)?;
    let extra = bytes.len().saturating_sub(used);
    if extra > 3 {
        return Err(CdrError::TrailingBytes { ty: M::TYPE, extra });
    }
    Ok(message)
}

/// How many of these bytes are the message, its header included. For buffers of a serialiser that tells how much it
/// might have needed instead of how much it wrote.
pub fn length<M: Message>(bytes: &[u8]) -> Result<usize, CdrError> {
    prefix::<M>(bytes).map(|(_, used)| used)
}

/// The message at the beginning of these bytes, and how many are its own.
fn prefix<M: Message>(bytes: &[u8]) -> Result<(M, usize), CdrError> {
    let ty = M::TYPE;
    let (Some(header), Some(body)) = (bytes.first_chunk::<HEADER_BYTES>(), bytes.get(HEADER_BYTES..)) else {
        return Err(CdrError::NoHeader { ty, length: bytes.len() });
    };
    let malformed = |e: cdr_encoding::Error| CdrError::Malformed { ty, reason: e.to_string() };
    let (message, used) = match (header[0], header[1]) {
        (0, 0) => cdr_encoding::from_bytes::<M, byteorder::BigEndian>(body).map_err(malformed)?,
        (0, 1) => cdr_encoding::from_bytes::<M, byteorder::LittleEndian>(body).map_err(malformed)?,
        (high, low) => {
            return Err(CdrError::Representation { ty, identifier: u16::from_be_bytes([high, low]) });
        }
    };
    Ok((message, HEADER_BYTES + used))
}
