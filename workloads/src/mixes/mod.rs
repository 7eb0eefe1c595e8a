//! Programs whose use of memory is none of `pressure`'s four patterns, to see whether paging was tuned to those.
//!
//! **How they were picked.** The list is that of the project's issue on paging, and older than the programs: what
//! software with too little memory is known to do and the four patterns do not. Nothing was tried and left out. Sizes,
//! shares and probabilities follow what such programs do; then only the numbers of operations were chosen, by counting
//! the misses of a plain clock with 64 MiB on the host, so that a run takes some seconds. No kernel had run any of them
//! under pressure by then, and all run the same. What each asks of a kernel that the four do not:
//!
//! - `phases`: that what is known of pages is forgotten: order, chance and popularity follow each other, and each
//!   half fits into 64 MiB of RAM alone while the other one is of no use.
//! - `pair`: that one process does not pay for the other: a hot set that fits, beside a scan that does not.
//! - `shifting`: that popularity which is over is noticed: every page is popular for a while, and none again.
//! - `btree`: pages of very different worth by structure (inner nodes, leaves), popularity of records and not of
//!   pages, walks that follow links through leaves which lie anywhere, new pages all the time.
//! - `transpose`: two orders at once: along rows and, with a stride that is no whole number of pages, down columns;
//!   read in another order than written out.
//! - `mark-sweep`: objects that do not care for pages; a visit to all that lives in the order of links, then to
//!   everything in the order of addresses; all of it written to, if only by a bit.
//!
//! All data is checked when it is read: contents follow from the seed, links and nodes say whom they belong to, and
//! writes are counted where that is possible. Output is that of `pressure`: a `RESULT` line for each of the phases
//! populate, run and verify, and `OK KIND` or `FAIL KIND …`. Timed is the run phase.
//!
//! `options` is the command line; `touches` (phases, shifting) and `pair` touch whole pages, `btree`, `transpose` and
//! `mark_sweep` are real algorithms on memory. Owns none of the measuring, which is `phase`'s.

mod btree;
mod mark_sweep;
mod options;
mod pair;
mod touches;
mod transpose;
mod words;

pub use options::{HELP, Kind, Options};
