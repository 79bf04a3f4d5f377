//! Standard error, without ever waiting for whoever reads it.
//!
//! A terminal that is held, or a pipe whose reader was stopped, would hold up everybody who writes to it; a control thread
//! that logs a warning must not be among them. So lines go into a bounded queue that a thread of its own empties. What does
//! not fit is dropped and counted, and [`losses`] tells how much, so that the gap can be named.

use std::{
    io::Write,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait at most.
const LINES: usize = 4096;

static CONSOLE: OnceLock<Console> = OnceLock::new();

struct Console {
    writer: NonBlocking,
    dropped: ErrorCounter,
    told: AtomicUsize,
    guard: Mutex<Option<WorkerGuard>>,
}

fn console() -> &'static Console {
    CONSOLE.get_or_init(|| {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES)
            .thread_name("console")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        Console { writer, dropped, told: AtomicUsize::new(0), guard: Mutex::new(Some(guard)) }
    })
}

/// Where a log goes. Its thread inherits the scheduling of whoever calls this first: call it before asking for real time.
pub fn writer() -> NonBlocking {
    console().writer.clone()
}

/// Writes a line.
pub fn say(line: &str) {
    // A line is one piece, so that lines of several threads do not mix; what cannot be queued is counted.
    let _ = writer().write_all(format!("{line}\n").as_bytes());
}

/// How many lines were dropped since this was last asked; nothing when none were.
pub fn losses() -> Option<usize> {
    let console = CONSOLE.get()?;
    let total = console.dropped.dropped_lines();
    let before = console.told.swap(total, Ordering::Relaxed);
    (total > before).then(|| total - before)
}

/// Lets what was written so far out, for about a second at the most, and ends the queue: for the end of a process.
pub fn close() {
    if let Some(console) = CONSOLE.get() {
        drop(console.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
