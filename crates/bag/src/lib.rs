//! ROS 2 bags in MCAP files (<https://mcap.dev/spec>): what a recorder writes, and what reads a flight back.
//!
//! A bag has the profile `ros2`: messages in CDR, a schema (`ros2msg`) for every type, chunks compressed with LZ4. It opens in Foxglove,
//! PlotJuggler and `ros2 bag`.
//!
//! **Kill and full disk.** [`Writer::flush`] ends a chunk and hands it to the system: what was flushed is read back by whoever
//! reads chunk after chunk, as [`read`] and MCAP's own recovery do, whatever becomes of the process. Only [`Writer::finish`] writes the index that
//! seeking readers need; [`mend`] writes it for a file that has none.
//!
//! The format is small and fixed, and is spoken here directly: the crate `mcap` switches on `proc-macro2`'s source locations for every
//! macro of a whole workspace, which then compiles anew and slower. Foreign readers judge what is written (tests/foreign.rs).

mod definition;
mod mend;
mod reader;
mod record;
mod recording;
mod writer;

pub use definition::schema_text;
pub use mend::{Mended, mend};
pub use reader::{Channel, Message, Messages, ReadError, read};
pub use recording::{Limits, Losses, Recording, Topic};
pub use writer::{ChannelId, Retention, Writer};
