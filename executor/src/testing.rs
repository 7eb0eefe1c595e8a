//! What the unit tests share: a clock moved by hand, and a literal list of what
//! happened.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use crate::{Clock, Config, Duration, Executor, Instant, Measure};

/// A clock that stands still until told otherwise.
#[derive(Debug, Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.0.fetch_add(span.as_nanos(), Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Relaxed))
    }
}

/// A small executor that measures everybody, and its clock.
pub(crate) fn executor() -> (Executor, &'static HandClock) {
    let clock = HandClock::leak();
    let config = Config { max_kernel_tasks: 8, max_user_tasks: 8, measure: Measure::AllTasks, ..Config::new(clock) };
    (Executor::new(config), clock)
}

/// The list of events a test compares with what it expects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(crate) fn push(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    /// Everything since the last call.
    #[track_caller]
    pub(crate) fn expect(&self, expected: &[&str]) {
        assert_eq!(core::mem::take(&mut *self.0.lock().unwrap()), expected);
    }

    /// A value that writes `event` when it is dropped.
    pub(crate) fn on_drop(&self, event: &'static str) -> OnDrop {
        OnDrop(self.clone(), event)
    }
}

pub(crate) struct OnDrop(Trace, &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.push(self.1);
    }
}
