//! `mixes KIND [key=value …]`: programs whose patterns are none of `pressure`'s. Claim: they end well, with all their
//! data right, however little RAM there is. `mixes --help` lists kinds and keys.

use std::process::ExitCode;

use workloads::mixes::Options;
use workloads::usage;

fn main() -> ExitCode {
    usage::main::<Options>()
}
