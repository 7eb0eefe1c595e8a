//! `userfaultfd` files: where the questions of a user pager are read and its answers given (userfaultfd(2)).
//!
//! Owns the state of the file: the handshake, and the pager in `mm` that it is. The `ioctl` words are in
//! `syscall/userfault.rs`; what is asked and what an answer does is `mm`'s matter. Closing the file closes the pager.

use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};

use linux_raw_sys::general as flag;
use zerocopy::IntoBytes;

use super::Readiness;
use super::pipe::Patience;
use crate::process::thread::Thread;
use crate::process::userpager::{Fault, Pager};
use crate::syscall::abi::UffdMsg;
use crate::syscall::errno::{Errno, SysResult};

/// What is delivered when a page is missing; the only event there is without features.
const EVENT_PAGEFAULT: u8 = 0x12;

/// An open `userfaultfd`.
pub struct UserFault {
    /// The pager.
    pub pager: Pager,
    /// `UFFDIO_API` was called.
    agreed: AtomicBool,
}

impl UserFault {
    /// For a pager that has no ranges yet.
    pub fn new(pager: Pager) -> Self {
        Self { pager, agreed: AtomicBool::new(false) }
    }

    /// Whether the handshake is done: before it nothing else may be asked (ioctl_userfaultfd(2)).
    pub fn has_agreed(&self) -> bool {
        self.agreed.load(Ordering::Acquire)
    }

    /// The handshake; an error the second time.
    pub fn agree(&self) -> Result<(), Errno> {
        if self.agreed.swap(true, Ordering::AcqRel) { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// What poll(2) says: an error for a file that may block, and before the handshake (userfaultfd(2)).
    pub fn readiness(&self, patience: Patience) -> Readiness {
        if !self.has_agreed() || patience == Patience::Wait {
            return Readiness { broken: true, ..Readiness::default() };
        }
        Readiness { readable: self.pager.has_fault(), ..Readiness::default() }
    }

    /// Has `waker` woken when there is something to read.
    pub fn register(&self, waker: &Waker) {
        self.pager.register(waker);
    }

    /// read(2): as many messages as there are and fit, at least one.
    pub async fn read(&self, thread: &Thread, out: u64, len: u64, patience: Patience) -> SysResult {
        const SIZE: u64 = size_of::<UffdMsg>() as u64;
        if !self.has_agreed() || len < SIZE {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while len - done >= SIZE {
            let fault = match self.pager.next_fault() {
                Some(fault) => fault,
                None if done > 0 => break,
                None if patience == Patience::Refuse => return Err(Errno::EAGAIN),
                None => self.wait(thread).await?,
            };
            // Read is read: whoever gives a bad address loses the message, and the fault waits until it is woken, as on Linux.
            match thread.process.write_bytes(out + done, message(fault).as_bytes()).await {
                Ok(()) => done += SIZE,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    async fn wait(&self, thread: &Thread) -> Result<Fault, Errno> {
        let fault = poll_fn(|cx| {
            self.pager.register(cx.waker());
            self.pager.next_fault().map_or(Poll::Pending, Poll::Ready)
        });
        thread.interruptible(fault).await
    }
}

fn message(fault: Fault) -> UffdMsg {
    let flags = if fault.is_write { u64::from(flag::UFFD_PAGEFAULT_FLAG_WRITE) } else { 0 };
    UffdMsg { event: EVENT_PAGEFAULT, reserved: [0; 7], flags, address: fault.address, feat: 0 }
}
