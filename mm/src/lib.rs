//! Ebb's memory manager: frames, address spaces, the page-fault path, reclaim and swap.
//!
//! Nothing here that the compiler cannot check, and no hardware: the machine is behind [`platform`], so all of it runs on
//! the host over [`sim`], where the same seed gives the same events. The kernel makes one [`Mm`], spawns its two tasks, and
//! calls it for everything programs do to memory.
//!
//! ```text
//!   a program touches a page                                    free frames fall below `low`
//!        │ Mm::fault                                                 │ run_reclaim
//!        ▼                                                           ▼
//!   fault: area → page → map, or what to wait for              reclaim: policy → unmap → cluster
//!        │ begin_fill                 ops: what is under way         │ send_batch
//!        └───────────────────────────►  (fixed table)  ◄─────────────┘
//!                                          │  ▲
//!                                          ▼  │ run_pager: completions
//!                                  platform::BackingStore
//! ```
//! - [`addr`]: newtypes. [`platform`], [`file_store`]: the seam. [`contract`]: what page tables do, as a suite. [`range`]: the buddy system. [`frame`]: who gives frames out, tokens, descriptors.
//! - [`page`]: the states of a page, with the diagram. [`index`]: 8 bytes a page. [`space`]: areas; map, unmap, protect, copies.
//! - [`object`]: pages that any number of spaces map. [`anon`]: pages shared since a fork. [`home`]: where a page's record stands. [`mapping`]: entries of page tables. [`rmap`]: which refer to a frame.
//! - [`fault`]: upwards, the one place that maps what somebody waits for. [`reclaim`]: downwards, the one place that unmaps a victim. [`pager`]: what comes back.
//! - [`swapin`]: fills, and pages that come with them. [`ops`]: operations under way. [`tier`]: compressed pages. [`swap`]: slots, audit, how far to read ahead. [`stats`]: counters and identities. [`victim`]: who ends when memory has run out. [`manager`]: the lock and what it guards.
//!
//! **Serialisation.** Everything is behind one lock, taken by closure and never held across an await. What two tasks can do to one page
//! between awaits is settled by its state: a fault joins the fill it finds, a touch averts an eviction, an unmap orphans what is under I/O.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
mod anon;
mod arena;
pub mod contract;
pub mod fault;
pub mod file_store;
pub mod frame;
pub mod group;
pub mod heap;
mod home;
pub mod index;
pub mod inspect;
mod manager;
mod mapping;
pub mod object;
pub mod ops;
pub mod page;
mod pager;
pub mod platform;
pub mod range;
pub mod reclaim;
mod rmap;
mod shortage;
#[cfg(feature = "sim")]
pub mod sim;
pub mod space;
pub mod stats;
pub mod swap;
mod swapin;
pub mod tier;
pub mod victim;

pub use anon::{AnonCounts, AnonId};
pub use manager::{Config, Mm, NoMemory};
pub use rmap::MapPoolCounts;

use core::pin::Pin;
use core::task::{Context, Poll};

/// Gives way once: other tasks run before the caller goes on.
fn yield_now() -> impl Future<Output = ()> {
    struct YieldNow(bool);
    impl Future for YieldNow {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if core::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    YieldNow(false)
}
