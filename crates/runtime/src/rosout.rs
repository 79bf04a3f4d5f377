//! Log records for `/rosout`.
//!
//! A process puts [`layer`] into its tracing subscriber; what it logs then goes to `/rosout` as well as long as a
//! transport that has such a topic runs a node in it. Records wait in a short queue; when it is full, the oldest are
//! dropped, because logging must never hold anyone up. For the same reason nobody waits for the queue's lock: a thread that
//! holds it may have been put aside by the scheduler. What is dropped is counted.

use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

use spikewing_msgs::rcl_interfaces::Log;
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::host::doorbell::Button;

/// Records that wait at most.
const CAPACITY: usize = 256;

static QUEUE: Mutex<Queue> = Mutex::new(Queue { records: VecDeque::new(), button: None });

struct Queue {
    records: VecDeque<Log>,
    /// Whom to wake. Nobody: records are not kept.
    button: Option<Arc<Button>>,
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// The queue, if nobody else has it at this moment.
fn try_queue() -> Option<MutexGuard<'static, Queue>> {
    match QUEUE.try_lock() {
        Ok(queue) => Some(queue),
        Err(TryLockError::Poisoned(queue)) => Some(queue.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// How many records were dropped since this was last asked; nothing when none were.
pub(crate) fn losses() -> Option<usize> {
    Some(DROPPED.swap(0, Ordering::Relaxed)).filter(|&lost| lost > 0)
}

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tracing layer that sends what this process logs to `/rosout`.
pub fn layer() -> RosoutLayer {
    RosoutLayer
}

/// See [`layer`].
#[derive(Clone, Copy, Debug)]
pub struct RosoutLayer;

impl<S: Subscriber> Layer<S> for RosoutLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // The middleware's own words stay here: publishing them would make it say more.
        let ours = metadata.target().starts_with("spikewing") || !metadata.target().contains("rustdds");
        if !ours || metadata.target() == "log" {
            return;
        }
        let level = match *metadata.level() {
            Level::ERROR => Log::ERROR,
            Level::WARN => Log::WARN,
            Level::INFO => Log::INFO,
            _ => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let record = Log {
            level,
            msg: text.message + &text.fields,
            file: metadata.file().unwrap_or_default().to_owned(),
            function: metadata.target().to_owned(),
            line: metadata.line().unwrap_or_default(),
            ..Log::default()
        };
        let button = {
            let Some(mut queue) = try_queue() else {
                DROPPED.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let Some(button) = queue.button.clone() else { return };
            if queue.records.len() >= CAPACITY {
                queue.records.pop_front();
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
            queue.records.push_back(record);
            button
        };
        button.press();
    }
}

/// An event's message and its other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Starts keeping records; `button` is pressed for each.
pub(crate) fn attach(button: &Arc<Button>) {
    queue().button = Some(Arc::clone(button));
}

/// Stops keeping records for the owner of `button`.
pub(crate) fn detach(button: &Arc<Button>) {
    let mut queue = queue();
    if queue.button.as_ref().is_some_and(|b| Arc::ptr_eq(b, button)) {
        queue.button = None;
        queue.records.clear();
    }
}

/// The oldest record, if `button` is the one they are kept for.
pub(crate) fn take(button: &Arc<Button>) -> Option<Log> {
    // Whoever has it presses the button when it lets go.
    let mut queue = try_queue()?;
    let ours = queue.button.as_ref().is_some_and(|b| Arc::ptr_eq(b, button));
    if ours { queue.records.pop_front() } else { None }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::host::doorbell::Doorbell;

    #[test]
    fn what_is_logged_becomes_a_record() {
        let button = Button::new(&Doorbell::new());
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("before anybody listens");
            attach(&button);
            assert!(take(&button).is_none());
            tracing::warn!(count = 3, "lost {} samples", 7);
            tracing::debug!("not for everybody");
            let record = take(&button).unwrap();
            assert_eq!((record.level, record.msg.as_str()), (Log::WARN, "lost 7 samples count=3"));
            assert!(record.line > 0 && button.take());
            assert!(take(&button).is_none());
            detach(&button);
        });
    }
}
