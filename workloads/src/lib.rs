//! Ordinary Linux programs that put memory under pressure and check every byte they read back.
//!
//! Everything here is plain Rust `std`, built static for Linux: the same binary runs on Linux and on Ebb, so a
//! difference in what it prints is a difference between the kernels. `src/bin` has one program per claim; the last line
//! of each program's output is machine-readable and its exit status says whether the claim held.
//!
//! | module | owns |
//! |---|---|
//! | [`rng`], [`zipf`], [`references`] | random numbers and the pages a workload touches |
//! | [`content`] | what a page holds and how a wrong byte is noticed |
//! | [`mapping`] (unsafe) | memory mappings, word by word |
//! | [`machine`] (unsafe) | marks, the time-stamp counter, bare system calls |
//! | [`counters`] | `/proc/vmstat` and `/proc/self/statm`, read without allocating |
//! | [`page_counts`] | pages by state, as the kernel counts them |
//! | [`maps`] | `/proc/self/maps` |
//! | [`latency`] | histograms of cycles |
//! | [`working_set`] | pages with content, touched, counted and verified |
//! | [`phase`], [`failure`] | what is measured between two marks, and how a workload fails |
//! | [`usage`] | `KIND key=value` command lines and how such programs end |
//! | [`claim`], [`arguments`] | last lines and command lines of the small programs |
//! | [`tree`] | a directory tree as lines that can be compared |
//! | [`volume`] (unsafe) | holes, reserved blocks, mounting anew |
//! | [`registers`] (unsafe) | all vector registers, held across system calls |
//! | [`process`] (unsafe) | forking and waiting |
//! | [`mixes`] (unsafe: a fork) | programs whose patterns are none of `pressure`'s: trees, matrices, heaps, phases, pairs |
//! | [`pressure`] | the main workload's options and kinds |
//!
//! Besides the modules above, unsafe code is only in those programs whose claim *is* a forbidden access or a signal;
//! each says so at its top.

pub mod arguments;
pub mod claim;
pub mod content;
pub mod counters;
pub mod failure;
pub mod latency;
pub mod machine;
pub mod mapping;
pub mod maps;
pub mod mixes;
pub mod page_counts;
pub mod phase;
pub mod pressure;
pub mod process;
pub mod references;
pub mod registers;
pub mod rng;
pub mod tree;
pub mod usage;
pub mod volume;
pub mod working_set;
pub mod zipf;
