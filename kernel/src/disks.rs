//! Which disk is what: swap and data are told apart by what is on them, not by where they are plugged in.
//!
//! Owns the choice and the order of mounting. Does not own the disks ([`crate::devices`]), swap ([`crate::storage`]) or files
//! ([`crate::fs::disk`]).
//!
//! A disk with a file system's superblock is the data disk, and refused if its blocks are not pages; any other must be swap, and is refused
//! with a reason if it is not.

use alloc::boxed::Box;

use disk_image::ext_block_bytes;
use drivers::virtio_blk::Late;
use executor::{Class, Duration};

use crate::arch::stack::FiberStack;
use crate::boot::PhysRange;
use crate::cmdline::{Options, Secrecy, Swap};
use crate::data_disk::DataDisk;
use crate::devices::{self, Disk};
use crate::fs::actor::Settings;
use crate::fs::blocks::BLOCK;
use crate::fs::disk;
use crate::machine::mm;
use crate::phys::Memory;
use crate::scheduler::executor;
use crate::storage::{self, Storage};
use crate::{file_store, frames, power, time};
use mm::frame::{FrameKind, Order};

/// Pages of the stack that the file system's library runs on. It was seen to use six; with assertions on, eighteen.
const FIBER_PAGES: usize = 32;
/// The cache below the library takes at most one frame in so many …
const CACHE_SHARE: usize = 64;
/// … within these bounds.
const CACHE_LEAST: usize = 16;
const CACHE_MOST: usize = 1024;

/// The disks of this machine.
pub struct Found {
    /// The swap area, checked.
    pub swap: Option<Storage>,
    /// The disk with a file system.
    pub data: Option<&'static Disk>,
}

/// Looks at every disk's first page.
pub async fn find(options: &Options, memory: &Memory) -> Found {
    let disks = match devices::disks() {
        Ok(disks) => disks,
        Err(error) => power::refuse(format_args!("a disk cannot be used: {error}")),
    };
    let mut found = Found { swap: None, data: None };
    for disk in disks {
        let page = match storage::read_first_page(disk, memory).await {
            Ok(page) => page,
            Err(error) => power::refuse(format_args!("a virtio disk is not used: {error}")),
        };
        if let Some(bytes) = ext_block_bytes(&page) {
            // Before anybody mounts it: the library takes such a file system's numbers of blocks for the device's, and leaves its marks.
            if bytes != BLOCK as u64 {
                refuse(&format_args!(
                    "its file system has blocks of {bytes} bytes, and only {BLOCK} can be used (mke2fs -b {BLOCK})"
                ));
            }
            if found.data.replace(disk).is_some() {
                power::refuse(format_args!("there are two disks with file systems: give one"));
            }
        } else if options.swap == Swap::Off || found.swap.is_some() {
            log::warn!("a virtio disk without a file system is left alone");
        } else {
            match Storage::open(disk, &page) {
                Ok(mut storage) => {
                    if options.secrecy == Secrecy::Encrypted {
                        storage.encrypt(*memory).unwrap_or_else(|refusal| power::refuse(format_args!("{refusal}")));
                    }
                    found.swap = Some(storage);
                }
                Err(refusal) => {
                    power::refuse(format_args!("a virtio disk without a file system is not used for swap: {refusal}"))
                }
            }
        }
    }
    found
}

fn refuse(reason: &dyn core::fmt::Display) -> ! {
    power::refuse(format_args!("the data disk cannot be used: {reason}"))
}

/// Mounts the data disk at `/`.
pub async fn mount(disk: &'static Disk, memory: Memory) {
    let disk = DataDisk::new(disk, memory).unwrap_or_else(|error| refuse(&error));
    let cached_blocks = (frames::get().counts().total / CACHE_SHARE).clamp(CACHE_LEAST, CACHE_MOST);
    let settings = Settings { cached_blocks, clock: time::wall_clock_ns };
    let stack = fiber_stack().unwrap_or_else(|| refuse(&"there is no memory for its stack"));
    let spawn = |fiber| executor().spawn(Class::Kernel, "files", Box::pin(fiber)).detach();
    match disk::mount(disk, settings, stack, spawn).await {
        Ok(facts) => log::info!("data disk: {} blocks, {} free, {:?}", facts.blocks, facts.free_blocks, facts.writable),
        Err(error) => refuse(&error),
    }
}

/// Starts what files need once there is a memory manager.
pub fn serve() {
    if let Some(volume) = disk::volume() {
        executor().spawn(Class::Kernel, "prepares", file_store::run_prepares(volume)).detach();
        // By turns with threads, who have work for the file system, too: large files take it many steps.
        executor().spawn(Class::User, "housekeeper", volume.keep_house()).detach();
    }
}

/// Names requests in the log that a disk has not answered for `timeout`, or up to half as long again. No more can be
/// done about them: their frames are the disk's until it answers or is reset, and a reset loses all that is in flight.
pub async fn watch(timeout: Duration) {
    let swap = mm().store().map(|store| ("swap", store.disk()));
    let data = disk::volume().map(|volume| ("data", volume.disk().disk()));
    loop {
        executor().timers().sleep(Duration::from_nanos(timeout.as_nanos() / 2)).await;
        for (name, disk) in [swap, data].into_iter().flatten() {
            let Some(Late { kind, sector, sectors, others }) = disk.watch_round() else { continue };
            log::warn!(
                "{name} disk: a {kind:?} of {} sectors at sector {} has had no answer for {} ms, \
                 and so have {others} others",
                sectors.0,
                sector.0,
                timeout.as_millis(),
            );
        }
    }
}

fn fiber_stack() -> Option<FiberStack> {
    let allocator = frames::get();
    let run = allocator.alloc(FrameKind::Heap, Order::holding(FIBER_PAGES)?)?;
    let len = run.order().frames() as u64 * 4096;
    let memory = PhysRange::from_len(allocator.leak(run).phys(), len);
    FiberStack::new(memory, &mut frames::kernel_table).ok()
}

/// Leaves the data disk clean.
pub async fn unmount() {
    let Some(volume) = disk::volume() else { return };
    if let Err(errno) = volume.unmount().await {
        log::error!("the data disk could not be unmounted: {errno:?}");
    }
}
