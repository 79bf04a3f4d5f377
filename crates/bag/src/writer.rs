//! Writes a bag, chunk by chunk.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use lz4_flex::frame::FrameEncoder;

use crate::record::{Content, MAGIC, opcode, put};

/// A chunk is ended when it holds so much.
const CHUNK_BYTES: usize = 512 * 1024;
const COMPRESSION: &str = "lz4";
/// Who wrote it.
const LIBRARY: &str = concat!("spikewing ", env!("CARGO_PKG_VERSION"));

/// Tells one channel of a bag from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u16);

/// Whether a topic's last message holds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is news, and then history.
    Stream,
    /// It holds until the next one (transient local): a player offers it to those who come late.
    Latched,
}

struct ChannelEntry {
    record: Vec<u8>,
    schema: Vec<u8>,
    /// Whether schema and channel stand in the file.
    told: bool,
    messages: u64,
    sequence: u32,
}

#[derive(Default)]
struct Chunk {
    records: Vec<u8>,
    span: Option<(u64, u64)>,
    index: BTreeMap<u16, Vec<(u64, u64)>>,
}

/// Writes a bag.
pub struct Writer<W: Write> {
    out: W,
    written: u64,
    channels: Vec<ChannelEntry>,
    chunk: Chunk,
    /// Chunk indices, for the summary.
    chunks: Vec<Vec<u8>>,
    span: Option<(u64, u64)>,
}

impl<W: Write> Writer<W> {
    /// Begins a bag.
    ///
    /// # Errors
    /// Those of the output.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self {
            out,
            written: 0,
            channels: Vec::new(),
            chunk: Chunk::default(),
            chunks: Vec::new(),
            span: None,
        };
        let mut head = MAGIC.to_vec();
        head.extend(Content::default().text("ros2").text(LIBRARY).record(opcode::HEADER));
        writer.put_out(&head)?;
        writer.out.flush()?;
        Ok(writer)
    }

    /// A topic with the definition of its type as [`crate::schema_text`] makes it. At most 65535 of them; what is beyond is the last.
    pub fn channel(
        &mut self,
        topic: &str,
        ros_type: &str,
        schema_text: &str,
        retention: Retention,
    ) -> ChannelId {
        let id = u16::try_from(self.channels.len()).unwrap_or(u16::MAX - 1);
        let profile = qos_profile(retention);
        let metadata =
            Content::default().text("offered_qos_profiles").text(&profile).text("topic_type").text(ros_type);
        // Schema 0 means "none".
        let schema = id + 1;
        let record = Content::default()
            .u16(id)
            .u16(schema)
            .text(topic)
            .text("cdr")
            .bytes(&metadata.0)
            .record(opcode::CHANNEL);
        let schema = Content::default()
            .u16(schema)
            .text(ros_type)
            .text("ros2msg")
            .text(schema_text)
            .record(opcode::SCHEMA);
        self.channels.push(ChannelEntry { record, schema, told: false, messages: 0, sequence: 0 });
        ChannelId(id)
    }

    /// A message: when it arrived and when it was sent, in ns, and its CDR with the four bytes before it.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, channel: ChannelId, arrived: u64, sent: u64, cdr: &[u8]) -> io::Result<()> {
        let Some(entry) = self.channels.get_mut(usize::from(channel.0)) else { return Ok(()) };
        if !entry.told {
            self.chunk.records.extend(&entry.schema);
            self.chunk.records.extend(&entry.record);
            entry.told = true;
        }
        entry.messages += 1;
        entry.sequence = entry.sequence.wrapping_add(1);
        let offset = self.chunk.records.len() as u64;
        self.chunk.index.entry(channel.0).or_default().push((arrived, offset));
        let mut content = Content::default().u16(channel.0).u32(entry.sequence).u64(arrived).u64(sent);
        content.0.extend(cdr);
        put(&mut self.chunk.records, opcode::MESSAGE, &content.0);
        self.chunk.span = Some(widened(self.chunk.span, arrived));
        if self.chunk.records.len() >= CHUNK_BYTES { self.end_chunk() } else { Ok(()) }
    }

    /// Ends the chunk and hands all to the system.
    ///
    /// # Errors
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.end_chunk()?;
        self.out.flush()
    }

    /// Bytes written so far, and waiting.
    pub fn size(&self) -> u64 {
        self.written + self.chunk.records.len() as u64
    }

    /// Writes the index and ends the bag.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_chunk()?;
        // No checksum of all data: every chunk has its own.
        self.put_out(&Content::default().u32(0).record(opcode::DATA_END))?;
        let start = self.written;
        let told = || self.channels.iter().filter(|c| c.told);
        let groups = [
            (opcode::SCHEMA, told().map(|c| c.schema.clone()).collect::<Vec<_>>()),
            (opcode::CHANNEL, told().map(|c| c.record.clone()).collect()),
            (opcode::STATISTICS, vec![self.statistics()]),
            (opcode::CHUNK_INDEX, std::mem::take(&mut self.chunks)),
        ];
        let (mut summary, mut offsets) = (Vec::new(), Vec::new());
        for (kind, records) in groups.iter().filter(|(_, records)| !records.is_empty()) {
            let from = summary.len() as u64;
            records.iter().for_each(|record| summary.extend(record));
            let mut offset = Content(vec![*kind]);
            offset = offset.u64(start + from).u64(summary.len() as u64 - from);
            offsets.extend(offset.record(opcode::SUMMARY_OFFSET));
        }
        let offset_start = start + summary.len() as u64;
        summary.extend(offsets);
        // The checksum covers the footer up to itself.
        let footer = Content::default().u64(start).u64(offset_start);
        let mut covered = summary;
        covered.push(opcode::FOOTER);
        covered.extend((footer.0.len() as u64 + 4).to_le_bytes());
        covered.extend(&footer.0);
        let sum = crc32fast::hash(&covered);
        covered.extend(sum.to_le_bytes());
        covered.extend(MAGIC);
        self.put_out(&covered)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn statistics(&self) -> Vec<u8> {
        let told: Vec<(u16, &ChannelEntry)> =
            (0..).zip(&self.channels).filter(|(_, entry)| entry.told).collect();
        let (first, last) = self.span.unwrap_or_default();
        let counts =
            told.iter().fold(Content::default(), |all, (id, entry)| all.u16(*id).u64(entry.messages));
        let count = u32::try_from(told.len()).unwrap_or(u32::MAX);
        Content::default()
            .u64(told.iter().map(|(_, entry)| entry.messages).sum())
            .u16(u16::try_from(count).unwrap_or(u16::MAX))
            .u32(count)
            .u32(0)
            .u32(0)
            .u32(u32::try_from(self.chunks.len()).unwrap_or(u32::MAX))
            .u64(first)
            .u64(last)
            .bytes(&counts.0)
            .record(opcode::STATISTICS)
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let Some((first, last)) = self.chunk.span else { return Ok(()) };
        let chunk = std::mem::take(&mut self.chunk);
        let mut encoder = FrameEncoder::new(Vec::with_capacity(chunk.records.len() / 2));
        encoder.write_all(&chunk.records)?;
        let packed = encoder.finish().map_err(io::Error::other)?;
        let (size, packed_size) = (chunk.records.len() as u64, packed.len() as u64);
        let mut content = Content::default()
            .u64(first)
            .u64(last)
            .u64(size)
            .u32(crc32fast::hash(&chunk.records))
            .text(COMPRESSION)
            .u64(packed_size);
        content.0.extend(packed);
        let mut all = content.record(opcode::CHUNK);
        let (start, length) = (self.written, all.len() as u64);
        let mut offsets = Content::default();
        for (channel, messages) in &chunk.index {
            offsets = offsets.u16(*channel).u64(start + all.len() as u64);
            let entries = messages.iter().fold(Content::default(), |c, (time, at)| c.u64(*time).u64(*at));
            all.extend(Content::default().u16(*channel).bytes(&entries.0).record(opcode::MESSAGE_INDEX));
        }
        let index = Content::default()
            .u64(first)
            .u64(last)
            .u64(start)
            .u64(length)
            .bytes(&offsets.0)
            .u64(all.len() as u64 - length)
            .text(COMPRESSION)
            .u64(packed_size)
            .u64(size);
        self.put_out(&all)?;
        self.chunks.push(index.record(opcode::CHUNK_INDEX));
        self.span = Some(widened(self.span, first)).map(|s| widened(Some(s), last));
        Ok(())
    }

    fn put_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn widened(span: Option<(u64, u64)>, time: u64) -> (u64, u64) {
    span.map_or((time, time), |(first, last)| (first.min(time), last.max(time)))
}

/// As rosbag2 writes it, for `ros2 bag play`.
fn qos_profile(retention: Retention) -> String {
    let (depth, reliability, durability) = match retention {
        Retention::Stream => (10, 2, 2),
        Retention::Latched => (1, 1, 1),
    };
    let forever = "sec: 9223372036\n    nsec: 854775807";
    format!(
        "- history: 1\n  depth: {depth}\n  reliability: {reliability}\n  durability: {durability}\n  deadline:\n    {forever}\n  \
         lifespan:\n    {forever}\n  liveliness: 1\n  liveliness_lease_duration:\n    {forever}\n  \
         avoid_ros_namespace_conventions: false\n"
    )
}
