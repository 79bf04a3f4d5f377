//! MCAP's records: one byte that says what it is, eight for its length, and content in little-endian numbers, texts and maps.

/// What every MCAP file begins and ends with.
pub const MAGIC: [u8; 8] = [0x89, b'M', b'C', b'A', b'P', b'0', b'\r', b'\n'];
/// Bytes before a record's content.
pub const HEAD: usize = 9;

/// Kinds of records that are written or read here.
pub mod opcode {
    pub const HEADER: u8 = 0x01;
    pub const FOOTER: u8 = 0x02;
    pub const SCHEMA: u8 = 0x03;
    pub const CHANNEL: u8 = 0x04;
    pub const MESSAGE: u8 = 0x05;
    pub const CHUNK: u8 = 0x06;
    pub const MESSAGE_INDEX: u8 = 0x07;
    pub const CHUNK_INDEX: u8 = 0x08;
    pub const STATISTICS: u8 = 0x0b;
    pub const SUMMARY_OFFSET: u8 = 0x0e;
    pub const DATA_END: u8 = 0x0f;
}

/// Writes the content of a record.
#[derive(Debug, Default)]
pub struct Content(pub Vec<u8>);

impl Content {
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes with their length (32 bits) before them.
    pub fn bytes(self, value: &[u8]) -> Self {
        let mut with = self.u32(length32(value.len()));
        with.0.extend(value);
        with
    }

    pub fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    /// The record.
    pub fn record(self, opcode: u8) -> Vec<u8> {
        let mut all = Vec::with_capacity(HEAD + self.0.len());
        put(&mut all, opcode, &self.0);
        all
    }
}

/// Appends a record.
pub fn put(to: &mut Vec<u8>, opcode: u8, content: &[u8]) {
    to.push(opcode);
    to.extend((content.len() as u64).to_le_bytes());
    to.extend(content);
}

/// No single part comes near 4 GiB; what did would be cut by the reader, not misread.
fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Reads the content of a record; `None` where it ends too early.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The next record: opcode and content.
    pub fn record(&mut self) -> Option<(u8, &'a [u8])> {
        let mut ahead = *self;
        let opcode = ahead.u8()?;
        let length = usize::try_from(ahead.u64()?).ok()?;
        let content = ahead.take(length)?;
        *self = ahead;
        Some((opcode, content))
    }
}
