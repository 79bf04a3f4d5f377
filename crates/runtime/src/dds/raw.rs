//! Samples as bytes: RustDDS carries them, our own strict codec reads and makes them.

use std::convert::Infallible;

use rustdds::{RepresentationIdentifier, bytes::Bytes, no_key};

/// Length of the CDR header, which RustDDS adds and removes itself.
const HEADER_BYTES: usize = 4;

/// A sample to be sent, without its CDR header (always plain little-endian CDR, as our encoder makes it).
#[derive(Clone, Debug)]
pub struct Outgoing(Bytes);

impl Outgoing {
    /// From what our encoder made.
    pub fn new(encoded: Vec<u8>) -> Self {
        let mut bytes = Bytes::from(encoded);
        Self(bytes.split_off(HEADER_BYTES.min(bytes.len())))
    }
}

/// A sample that came, with its CDR header.
#[derive(Clone, Debug)]
pub struct Incoming(pub Vec<u8>);

/// Carries bytes.
#[derive(Debug)]
pub struct RawAdapter;

/// Copies bytes.
#[derive(Clone, Debug)]
pub struct RawDecoder;

impl no_key::DeserializerAdapter<Incoming> for RawAdapter {
    type Error = Infallible;
    type Decoded = Incoming;

    fn supported_encodings() -> &'static [RepresentationIdentifier] {
        &[RepresentationIdentifier::CDR_LE, RepresentationIdentifier::CDR_BE]
    }

    fn transform_decoded(decoded: Incoming) -> Incoming {
        decoded
    }
}

impl no_key::DefaultDecoder<Incoming> for RawAdapter {
    type Decoder = RawDecoder;
    const DECODER: RawDecoder = RawDecoder;
}

impl<'de> no_key::Decode<'de, Incoming> for RawDecoder {
    type Error = Infallible;

    fn decode_bytes(
        self,
        body: &'de [u8],
        encoding: RepresentationIdentifier,
    ) -> Result<Incoming, Infallible> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&encoding.to_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(body);
        Ok(Incoming(bytes))
    }
}

impl no_key::SerializerAdapter<Outgoing> for RawAdapter {
    type Error = Infallible;

    fn output_encoding() -> RepresentationIdentifier {
        RepresentationIdentifier::CDR_LE
    }

    fn to_bytes(value: &Outgoing) -> Result<Bytes, Infallible> {
        Ok(value.0.clone())
    }
}
