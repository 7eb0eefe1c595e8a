//! Calls that Linux does not have: memory in blocks that are freed whole, and submaps.
//!
//! Their numbers are far beyond Linux's, so that no program meets them by accident. Checks what the program asked for and passes it
//! to `mm` by way of `process/mapping.rs`.
//!
//! ```text
//! vm_alloc(submap or 0, length, prot) → address    memory in a submap, or outside of all of them: ENOMEM if there is no room in it
//! vm_free(address)                                 the whole block that the address lies in; EINVAL if it is in none
//! vm_submap(submap or 0, length) → address         sets a range apart; its address is its name
//! vm_unsubmap(submap)                              unmaps all that is in a submap, and ends it and those inside
//! ```

use mm::addr::VirtAddr;
use mm::space::Scope;

use super::abi::USER_END;
use super::errno::{Errno, SysResult};
use super::mem::{check_aligned, pages, protection};
use crate::process::thread::Thread;

/// "EB" as a number, and the calls from there on.
const FIRST: u64 = 0x4542_0000;

const VM_ALLOC: u64 = FIRST;
const VM_FREE: u64 = FIRST + 1;
const VM_SUBMAP: u64 = FIRST + 2;
const VM_UNSUBMAP: u64 = FIRST + 3;

/// Whether a number is a native call's.
pub(super) fn is_one(number: u64) -> bool {
    (VM_ALLOC..=VM_UNSUBMAP).contains(&number)
}

/// Answers a native call.
pub(super) async fn dispatch(thread: &Thread, number: u64, [a, b, c]: [u64; 3]) -> SysResult {
    match number {
        VM_ALLOC => thread.process.allocate(scope(a)?, length(b)?, protection(c)?).await,
        VM_FREE => thread.process.free_block(a).await,
        VM_SUBMAP => thread.process.create_submap(scope(a)?, length(b)?),
        VM_UNSUBMAP => thread.process.remove_submap(a).await,
        _ => Err(Errno::ENOSYS),
    }
}

fn scope(submap: u64) -> Result<Scope, Errno> {
    check_aligned(submap)?;
    Ok(if submap == 0 { Scope::Space } else { Scope::Submap(VirtAddr::new(submap)) })
}

/// A length in whole pages: as mmap(2) has it.
fn length(len: u64) -> Result<u64, Errno> {
    match pages(len).filter(|len| *len <= USER_END) {
        Some(0) => Err(Errno::EINVAL),
        Some(len) => Ok(len),
        None => Err(Errno::ENOMEM),
    }
}
