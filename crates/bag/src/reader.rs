//! Reads a bag from its beginning to its end, or to where it was cut.

use std::{collections::BTreeMap, io::Read, sync::Arc};

use crate::record::{Cursor, MAGIC, opcode};

/// No chunk that a recorder makes unpacks to more, B.
const LARGEST_CHUNK: u64 = 1 << 30;

/// Why a bag cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Another kind of file.
    #[error("it is no MCAP file: {hint}")]
    Foreign {
        /// What it may be.
        hint: &'static str,
    },
    /// A chunk that does not hold what it says.
    #[error("the chunk at byte {at} is damaged: {reason}")]
    Chunk {
        /// Where it begins.
        at: usize,
        /// What is wrong.
        reason: String,
    },
}

/// A topic of a bag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub topic: String,
    /// The type of its messages, e.g. `nav_msgs/msg/Odometry`.
    pub ros_type: String,
    /// Definition of the type.
    pub schema: String,
    /// `cdr`, if ROS 2 wrote it.
    pub encoding: String,
    /// rosbag2's `offered_qos_profiles`, if it is said.
    pub qos: String,
}

/// One message of a bag.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its topic.
    pub channel: Arc<Channel>,
    /// When it arrived, ns.
    pub arrived: u64,
    /// When it was sent, ns.
    pub sent: u64,
    /// Its bytes: CDR with the four bytes before it.
    pub data: Vec<u8>,
}

/// Reads a bag; messages come in the order in which they were written.
///
/// # Errors
/// When it is another kind of file.
pub fn read(bytes: &[u8]) -> Result<Messages<'_>, ReadError> {
    let Some(rest) = bytes.strip_prefix(&MAGIC) else {
        let hint = match bytes {
            [b'S', b'Q', b'L', ..] => {
                "it is an SQLite database; `ros2 bag convert` makes an MCAP file of such a bag"
            }
            [b'U', b'L', b'o', b'g', ..] => "it is a PX4 log (ULog)",
            [b'#', b'R', b'O', b'S', ..] => "it is a bag of ROS 1",
            [] => "it is empty",
            _ => "it does not begin with MCAP's mark",
        };
        return Err(ReadError::Foreign { hint });
    };
    Ok(Messages {
        whole: bytes.len(),
        file: Cursor(rest),
        chunk: Vec::new(),
        at: 0,
        schemas: BTreeMap::new(),
        channels: BTreeMap::new(),
        ended: Ended::No,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    Properly,
    Cut,
}

/// The messages of a bag.
pub struct Messages<'a> {
    whole: usize,
    file: Cursor<'a>,
    /// The chunk that is read, unpacked, and how far.
    chunk: Vec<u8>,
    at: usize,
    schemas: BTreeMap<u16, (String, String)>,
    channels: BTreeMap<u16, Arc<Channel>>,
    ended: Ended,
}

impl Messages<'_> {
    /// After the last message: whether the file ended without an end, as that of a killed recorder does.
    pub fn was_cut(&self) -> bool {
        self.ended == Ended::Cut
    }

    /// Takes what a record says; a message, if it is one.
    fn take(&mut self, kind: u8, content: &[u8]) -> Option<Message> {
        let mut c = Cursor(content);
        match kind {
            opcode::SCHEMA => {
                let (id, name, _encoding, text) = (c.u16()?, c.text()?, c.text()?, c.text()?);
                self.schemas.insert(id, (name.to_owned(), text.to_owned()));
                None
            }
            opcode::CHANNEL => {
                let (id, schema, topic, encoding) = (c.u16()?, c.u16()?, c.text()?, c.text()?);
                let (ros_type, text) = self.schemas.get(&schema).cloned().unwrap_or_default();
                let mut metadata = Cursor(c.bytes().unwrap_or_default());
                let mut qos = String::new();
                while let (Some(key), Some(value)) = (metadata.text(), metadata.text()) {
                    if key == "offered_qos_profiles" {
                        qos = value.to_owned();
                    }
                }
                let (topic, encoding) = (topic.to_owned(), encoding.to_owned());
                self.channels.insert(id, Arc::new(Channel { topic, ros_type, schema: text, encoding, qos }));
                None
            }
            opcode::MESSAGE => {
                let (id, _sequence, arrived, sent) = (c.u16()?, c.u32()?, c.u64()?, c.u64()?);
                let channel = Arc::clone(self.channels.get(&id)?);
                Some(Message { channel, arrived, sent, data: c.0.to_vec() })
            }
            _ => None,
        }
    }

    /// The next message of the chunk.
    fn of_chunk(&mut self) -> Option<Message> {
        let chunk = std::mem::take(&mut self.chunk);
        let mut cursor = Cursor(chunk.get(self.at..).unwrap_or_default());
        let mut found = None;
        while found.is_none() {
            let Some((kind, content)) = cursor.record() else { break };
            found = self.take(kind, content);
        }
        self.at = chunk.len() - cursor.0.len();
        if found.is_some() {
            self.chunk = chunk;
        } else {
            self.at = 0;
        }
        found
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(message) = self.of_chunk() {
                return Some(Ok(message));
            }
            if self.ended != Ended::No {
                return None;
            }
            let at = self.whole - self.file.0.len();
            let Some((kind, content)) = self.file.record() else {
                self.ended = Ended::Cut;
                return None;
            };
            match kind {
                opcode::CHUNK => match unpacked(content) {
                    Ok(records) => self.chunk = records,
                    Err(reason) => {
                        self.ended = Ended::Cut;
                        return Some(Err(ReadError::Chunk { at, reason }));
                    }
                },
                // What follows repeats what was said.
                opcode::DATA_END => self.ended = Ended::Properly,
                _ => {
                    if let Some(message) = self.take(kind, content) {
                        return Some(Ok(message));
                    }
                }
            }
        }
    }
}

fn unpacked(content: &[u8]) -> Result<Vec<u8>, String> {
    let mut c = Cursor(content);
    let mut head = || {
        let (_first, _last, size, sum) = (c.u64()?, c.u64()?, c.u64()?, c.u32()?);
        let compression = c.text()?;
        let length = usize::try_from(c.u64()?).ok()?;
        Some((size, sum, compression, c.take(length)?))
    };
    let (size, sum, compression, packed) = head().ok_or("it is shorter than it says")?;
    if size > LARGEST_CHUNK {
        return Err(format!("it says that it unpacks to {size} bytes"));
    }
    let mut records = Vec::new();
    // No more is unpacked than was announced.
    let mut within = |reader: &mut dyn Read| {
        reader.take(size + 1).read_to_end(&mut records).map(|_| ()).map_err(|e| e.to_string())
    };
    match compression {
        "" => within(&mut &packed[..])?,
        "lz4" => within(&mut lz4_flex::frame::FrameDecoder::new(packed))?,
        "zstd" => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| e.to_string())?;
            within(&mut decoder)?;
        }
        other => return Err(format!("it is packed with `{other}`; lz4 and zstd are known")),
    }
    if records.len() as u64 != size {
        return Err(format!("it unpacks to {} bytes, not to {size}", records.len()));
    }
    if sum != 0 && sum != crc32fast::hash(&records) {
        return Err("its checksum is another".to_owned());
    }
    Ok(records)
}
