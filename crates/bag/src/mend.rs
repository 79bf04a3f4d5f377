//! Gives a cut bag its end.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::{ReadError, Retention, Writer, read};

/// What became of a bag.
#[derive(Debug)]
pub struct Mended<W> {
    /// Where it was written.
    pub out: W,
    /// Messages that it has.
    pub messages: u64,
    /// Why reading ended before the file did.
    pub rest: Option<ReadError>,
}

/// Writes what can be read of a bag as a bag that has its index, so that every reader opens it.
///
/// # Errors
/// When it is no bag ([`ReadError`]), or those of the output.
pub fn mend<W: Write>(bag: &[u8], out: W) -> io::Result<Mended<W>> {
    let mut writer = Writer::new(out)?;
    let mut channels = BTreeMap::new();
    let (mut messages, mut rest) = (0, None);
    for message in read(bag).map_err(io::Error::other)? {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                rest = Some(error);
                break;
            }
        };
        let c = &message.channel;
        let id = *channels.entry((c.topic.clone(), c.ros_type.clone())).or_insert_with(|| {
            let latched = c.qos.contains("durability: 1");
            let retention = if latched { Retention::Latched } else { Retention::Stream };
            writer.channel(&c.topic, &c.ros_type, &c.schema, retention)
        });
        writer.write(id, message.arrived, message.sent, &message.data)?;
        messages += 1;
    }
    Ok(Mended { out: writer.finish()?, messages, rest })
}
