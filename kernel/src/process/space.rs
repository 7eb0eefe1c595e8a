//! An address space as processes have it: what `mm` knows it by, and what lives and dies with it.
//!
//! Owns the heap's bounds and the futex queue, because both are about addresses: a child made by vfork shares them with
//! its parent, and execve leaves them behind. Owns who is still in it, too. Pages and areas are `mm`'s (`memory.rs`).
//!
//! ```text
//!   create ─► used by processes ──last resign──► doomed ──destroy──► gone
//!                │      ▲
//!                └ join ┘ (vfork, clone with CLONE_VM)
//! ```
//! Taking a space down waits, and a thread can be dropped where it waits; so a space that is doomed stands in
//! [`super::thread::ThreadState::doomed`] until it is gone, and the thread's end finishes what it began.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use mm::space::SpaceId;

use super::elf;
use super::futex::FutexQueue;
use crate::arch::paging::SpaceRoot;
use crate::sync::Mutex;
use crate::syscall::errno::Errno;

/// The heap that `brk` moves the end of.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    /// Where it begins: the first page behind the image.
    pub start: u64,
    /// Its end, to the byte.
    pub end: u64,
}

/// See the module's head.
pub struct AddressSpace {
    /// What `mm` knows it by.
    pub id: SpaceId,
    /// What CR3 gets while a thread runs in it.
    pub root: SpaceRoot,
    /// Its heap.
    pub heap: Mutex<Heap>,
    /// Waits on its words.
    pub futexes: FutexQueue,
    /// Processes in it.
    users: AtomicUsize,
}

impl AddressSpace {
    /// An empty space with one user.
    pub fn create() -> Result<Arc<Self>, Errno> {
        let (id, root) = crate::address_space::create(elf::layout()).map_err(|_| Errno::ENOMEM)?;
        let space = Self::of(id, root, Heap { start: 0, end: 0 });
        space.stand_apart();
        Ok(space)
    }

    /// One that `mm` has made, with one user.
    pub fn of(id: SpaceId, root: SpaceRoot, heap: Heap) -> Arc<Self> {
        let (heap, futexes) = (Mutex::new(heap), FutexQueue::new());
        Arc::new(Self { id, root, heap, futexes, users: AtomicUsize::new(1) })
    }

    /// One process more is in it.
    pub fn join(self: &Arc<Self>) -> Arc<Self> {
        self.users.fetch_add(1, Ordering::AcqRel);
        Arc::clone(self)
    }

    /// Whether several processes are in it.
    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::Acquire) > 1
    }

    /// One process less is in it. The last one has to take it down.
    pub fn resign(&self) -> Resigned {
        match self.users.fetch_sub(1, Ordering::AcqRel) {
            1 => Resigned::Last,
            _ => Resigned::OthersStay,
        }
    }

    /// Takes it down, once no thread can enter it again. May be begun anew by somebody else if it is dropped half-way.
    pub async fn destroy(&self) {
        crate::arch::kernel_space::leave(self.root);
        crate::mm().destroy_space(self.id).await;
    }
}

/// Whether anybody is left in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Resigned {
    /// Nobody: it is doomed.
    Last,
    /// Somebody.
    OthersStay,
}
