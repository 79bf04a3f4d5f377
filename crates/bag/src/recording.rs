//! A recording: a thread that writes bags, and never holds up who hands it messages.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{ChannelId, Retention, Writer};

/// Messages that may wait for the disk.
const QUEUE: usize = 8192;
/// What a killed process loses at most.
const FLUSH: Duration = Duration::from_millis(500);

/// How large recordings grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A file that has so many bytes is ended, and the next begun.
    pub file_bytes: u64,
    /// So many files of this recording are kept; the oldest goes first.
    pub files: usize,
}

/// A topic that is recorded.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ros_type: String,
    /// Definition of the type, with all that is inside it.
    pub schema: String,
    /// Whether its last message holds on; such messages are repeated at the beginning of every file.
    pub retention: Retention,
}

/// What is not in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Messages that came faster than the disk took them.
    pub messages: u64,
    /// Why nothing is written any more.
    pub stopped: Option<String>,
}

struct Item {
    topic: usize,
    arrived: u64,
    sent: u64,
    data: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    lost: AtomicU64,
    stopped: Mutex<Option<String>>,
}

/// A running recording; dropped, it ends its file.
pub struct Recording {
    queue: Option<SyncSender<Item>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Recording {
    /// Begins to record into `path`, or, where such a file is, into the next free `…_1.mcap`, `…_2.mcap` and so on: what was recorded stays.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(path: &Path, topics: Vec<Topic>, limits: Limits) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; name a file in it"));
        }
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut disk = Disk {
            base: path.to_owned(),
            next: 0,
            files: Vec::new(),
            latest: vec![None; topics.len()],
            channels: Vec::new(),
            topics,
            limits,
        };
        let writer = disk.open()?;
        let path = disk.files.last().cloned().unwrap_or_default();
        let shared = Arc::new(Shared::default());
        let (queue, items) = sync_channel(QUEUE);
        let told = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("recording".into()).spawn(move || {
            if let Err(error) = disk.run(writer, &items) {
                // Whoever holds the lock only reads or writes one value.
                *told.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(error.to_string());
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), shared, path })
    }

    /// The first file of the recording.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A message of the topic of that number; it is counted as lost if the disk does not follow.
    pub fn write(&self, topic: usize, arrived: u64, sent: u64, data: Vec<u8>) {
        let item = Item { topic, arrived, sent, data };
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(item).is_err()) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is not in the files.
    pub fn losses(&self) -> Losses {
        let stopped = self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Losses { messages: self.shared.lost.load(Ordering::Relaxed), stopped: stopped.clone() }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // The thread ends when nobody can send any more.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Disk {
    base: PathBuf,
    /// Number of the next file.
    next: usize,
    files: Vec<PathBuf>,
    topics: Vec<Topic>,
    channels: Vec<ChannelId>,
    /// Last message of every latched topic.
    latest: Vec<Option<(u64, u64, Vec<u8>)>>,
    limits: Limits,
}

impl Disk {
    fn run(&mut self, mut writer: Writer<File>, items: &Receiver<Item>) -> io::Result<()> {
        let mut flushed = Instant::now();
        loop {
            match items.recv_timeout(FLUSH.saturating_sub(flushed.elapsed())) {
                Ok(item) => self.take(&mut writer, item)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return writer.finish().map(drop),
            }
            if flushed.elapsed() >= FLUSH {
                writer.flush()?;
                flushed = Instant::now();
            }
            if writer.size() >= self.limits.file_bytes {
                writer.finish()?;
                writer = self.open()?;
                self.repeat_latched(&mut writer)?;
            }
        }
    }

    fn take(&mut self, writer: &mut Writer<File>, item: Item) -> io::Result<()> {
        let Some(channel) = self.channels.get(item.topic) else { return Ok(()) };
        writer.write(*channel, item.arrived, item.sent, &item.data)?;
        if self.topics[item.topic].retention == Retention::Latched {
            self.latest[item.topic] = Some((item.arrived, item.sent, item.data));
        }
        Ok(())
    }

    fn repeat_latched(&self, writer: &mut Writer<File>) -> io::Result<()> {
        for (channel, latest) in self.channels.iter().zip(&self.latest) {
            if let Some((arrived, sent, data)) = latest {
                writer.write(*channel, *arrived, *sent, data)?;
            }
        }
        Ok(())
    }

    /// The next file, of a name that is free; the oldest goes when there are too many.
    fn open(&mut self) -> io::Result<Writer<File>> {
        let file = loop {
            let path = numbered(&self.base, self.next);
            self.next += 1;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    self.files.push(path);
                    break file;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        while self.files.len() > self.limits.files.max(1) {
            fs::remove_file(self.files.remove(0))?;
        }
        let mut writer = Writer::new(file)?;
        self.channels = self
            .topics
            .iter()
            .map(|t| writer.channel(&t.name, &t.ros_type, &t.schema, t.retention))
            .collect();
        Ok(writer)
    }
}

fn numbered(base: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return base.to_owned();
    }
    let stem = base.file_stem().unwrap_or_default().to_string_lossy();
    base.with_file_name(format!("{stem}_{number}.mcap"))
}
