//! `pressure KIND [key=value …]`: the main workload. Claim: whatever was written to memory comes back, however little RAM
//! there is. `pressure --help` lists kinds and keys.

use std::process::ExitCode;

use workloads::pressure::Options;
use workloads::usage;

fn main() -> ExitCode {
    usage::main::<Options>()
}
