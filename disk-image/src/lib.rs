//! On-disk formats that the kernel and the host tool must agree on, and the builder of image files.
//!
//! Owns: the Linux swap header ([`SwapHeader`]), how an ext4 disk is known ([`ext_block_bytes`]), and, with the feature `std`, the [`builder`] of swap
//! and ext4 image files. Does not own: slots and what is in them (`mm`), requests to the disk
//! (`drivers`), which image a run uses (`ebb`). Neighbours: `kernel` parses the first page of its swap
//! disk with this crate before anything else is read from it, `ebb` does the same before it boots.

#![cfg_attr(not(any(test, feature = "std")), no_std)]

mod ext;
mod swap_header;

#[cfg(feature = "std")]
pub mod builder;

pub use ext::ext_block_bytes;
pub use swap_header::{HeaderError, Label, PAGE_BYTES, Pages, SwapHeader, Uuid};
