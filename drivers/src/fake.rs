//! A disk for host tests that does exactly what the test says, when it says so: late, out of order, wrongly, or never.
//!
//! Owns a physical memory that notices misuse ([`memory`]) and a device model behind a virtio transport ([`device`]).
//! No threads, no sleeps: the test steps the device. Built for tests only.

pub(crate) mod alloc_count;
pub(crate) mod device;
pub(crate) mod memory;
