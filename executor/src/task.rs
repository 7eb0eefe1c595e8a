//! What a task is called, which class it belongs to, and what the executor keeps with
//! it.
//!
//! Owns the metadata that lives in every task's allocation. Does not own the task's
//! state, which is `async-task`'s, nor the queues (`run_queue`) or the polling
//! (`executor`).

use core::fmt;

use crate::executor::Shared;
use crate::turn::Turn;

/// Which of the two worlds a task belongs to. It decides the lane its wake-ups go to,
/// see [`crate::Lane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A task of the kernel itself: pager, reclaim, console. Runs before every user
    /// task.
    Kernel,
    /// A user thread.
    User,
}

/// A task's name in logs and reports: a word, and a number where there are many of a
/// kind.
///
/// The word is `'static` and the whole is `Copy`, because the executor takes a copy
/// before each measured poll: by the time a poll is known to have been slow, the task
/// may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName {
    kind: &'static str,
    number: Option<u32>,
}

impl TaskName {
    /// A task that is the only one of its kind.
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, number: None }
    }

    /// The word, without the number.
    pub const fn kind(self) -> &'static str {
        self.kind
    }

    /// One of many: `TaskName::numbered("thread", 7)` prints as `thread 7`.
    pub const fn numbered(kind: &'static str, number: u32) -> Self {
        Self { kind, number: Some(number) }
    }
}

impl From<&'static str> for TaskName {
    fn from(kind: &'static str) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => f.write_str(self.kind),
            Some(number) => write!(f, "{} {number}", self.kind),
        }
    }
}

/// A number no other task of the same executor has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    /// The number itself; the first task spawned has 0.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// What the executor keeps with a task, in the task's own allocation.
///
/// It holds the way back to the executor. That it is here and not in the schedule
/// function is a matter of cost: a schedule function that captures nothing has size
/// zero, and `async-task` then skips the temporary waker (two atomic operations on the
/// reference count) it otherwise takes around every wake-up.
#[derive(Debug)]
pub struct TaskInfo {
    pub(crate) shared: &'static Shared,
    pub(crate) name: TaskName,
    pub(crate) id: TaskId,
    pub(crate) class: Class,
    pub(crate) turn: Turn,
}

impl TaskInfo {
    /// The task's name.
    pub fn name(&self) -> TaskName {
        self.name
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The task's class.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl Drop for TaskInfo {
    /// The allocation goes, and with it the last chance of a wake-up: only now may
    /// another task take its place in the queues. Counting at completion would be too
    /// early, since a closed task can be scheduled once more.
    fn drop(&mut self) {
        self.shared.release(self.class);
    }
}

/// The handle of a spawned task: await it for the output,
/// [`detach`](async_task::Task::detach) it to let it run on its own,
/// [`cancel`](async_task::Task::cancel) it. Dropping the handle cancels the task: its
/// future is dropped at the await where it stands, by the executor, the next time the
/// task would have been polled.
pub type Task<T> = async_task::Task<T, TaskInfo>;

/// A task that is ready to be polled. Exactly one exists for a scheduled task and none
/// for any other.
pub(crate) type Runnable = async_task::Runnable<TaskInfo>;
