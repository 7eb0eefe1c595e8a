//! Allocates and writes for ever, or up to `mib=N`. Claim: when RAM and swap are used up, the program ends (killed, or
//! status 3 when the kernel refuses the mapping) and the kernel explains it; it never hangs.

use std::process::ExitCode;

use workloads::content::Content;
use workloads::mapping::{Charge, Mapping};

const PAGES_PER_MIB: u64 = 256;
/// How often the program says how far it is.
const REPORT_MIB: u64 = 16;

fn main() -> ExitCode {
    let mut mib = 0;
    workloads::arguments::parse("allocates and writes until it is stopped, or up to mib MiB", &mut [("mib", &mut mib)]);
    // Every page is different and does not compress, so nothing but space can hold it.
    let content = Content::new(1, 100);
    let mut held = 0;
    while mib == 0 || held < mib {
        let memory = match Mapping::anonymous(PAGES_PER_MIB, Charge::Committed) {
            Ok(memory) => memory,
            Err(error) => {
                println!("REFUSED exhaust mib={held}: {error}");
                return ExitCode::from(3);
            }
        };
        for page in 0..PAGES_PER_MIB {
            content.write(held * PAGES_PER_MIB + page, memory.page_to_write(page as usize));
        }
        // Kept for ever; a list of the mappings would be memory of our own.
        std::mem::forget(memory);
        held += 1;
        if held % REPORT_MIB == 0 {
            println!("HELD mib={held}");
        }
    }
    println!("OK exhaust mib={held}");
    ExitCode::SUCCESS
}
