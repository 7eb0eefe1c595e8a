//! Names for the addresses in a kernel panic.
//!
//! Owns: looking them up in the kernel's ELF file and demangling them. The kernel itself carries no
//! names, which keeps it small.

use std::path::Path;

use object::{Object as _, SymbolMap, SymbolMapName};

/// Names each frame of a backtrace, innermost first. An address without a name stays an address.
pub fn backtrace(kernel: &Path, frames: &[String]) -> Vec<String> {
    let Ok(data) = std::fs::read(kernel) else {
        return frames.to_vec();
    };
    let Ok(file) = object::File::parse(&*data) else {
        return frames.to_vec();
    };
    let symbols = file.symbol_map();
    frames.iter().map(|frame| name(&symbols, frame)).collect()
}

fn name(symbols: &SymbolMap<SymbolMapName<'_>>, frame: &str) -> String {
    let Some(address) = frame.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
        return frame.to_owned();
    };
    // A return address may be past the end of a function whose last instruction is the call.
    match symbols.containing(address.wrapping_sub(1)) {
        Some(symbol) => {
            let offset = address - symbol.address();
            format!("{:#} +{offset:#x} ({frame})", rustc_demangle::demangle(symbol.name()))
        }
        None => frame.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a symbol whatever the optimiser does to its callers.
    #[inline(never)]
    fn something_to_be_found(number: u64) -> u64 {
        std::hint::black_box(number) + 1
    }

    #[test]
    fn addresses_become_names_of_the_file_they_are_in() {
        assert_eq!(std::hint::black_box(something_to_be_found as fn(u64) -> u64)(1), 2);
        let own = std::env::current_exe().unwrap();
        let data = std::fs::read(&own).unwrap();
        let file = object::File::parse(&*data).unwrap();
        let map = file.symbol_map();
        let symbol = map.symbols().iter().find(|symbol| symbol.name().contains("something_to_be_found")).unwrap();
        let frames = [format!("{:#x}", symbol.address() + 3), "0x1".to_owned(), "?".to_owned()];
        let named = backtrace(&own, &frames);
        assert!(named[0].contains("symbols::tests::something_to_be_found") && named[0].contains("+0x3"), "{named:?}");
        assert_eq!(named[1..], frames[1..]);
    }

    #[test]
    fn without_a_kernel_file_addresses_stay() {
        assert_eq!(backtrace(Path::new("/nonexistent"), &["0x10".to_owned()]), ["0x10"]);
    }
}
