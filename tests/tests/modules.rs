//! Which modules of `mm` know of each other: physical frames, ranges of addresses and areas of programs must not.
//!
//! Owns: the list of what each may use. Neighbour: `arrows.rs`, which does the same for crates.

use std::collections::BTreeSet;

use tests::source::{self, code_only};

/// Parts of `mm`, by the files they consist of, and the modules of `mm` that they may name.
const MAY_USE: [(&str, &[&str], &[&str]); 5] = [
    ("ranges of anything", &["mm/src/range/"], &["range"]),
    ("addresses", &["mm/src/addr.rs"], &[]),
    (
        "who gives frames out",
        &["mm/src/frame/allocator.rs", "mm/src/frame/magazines.rs", "mm/src/frame/roles.rs"],
        &["addr", "range"],
    ),
    ("areas of address spaces", &["mm/src/space/vma.rs"], &["addr", "platform", "object", "space"]),
    ("the kernel's heap", &["mm/src/heap/"], &["addr", "frame", "range", "heap"]),
];

/// The modules that a text names as `crate::name`.
fn named(code: &str) -> BTreeSet<&str> {
    let names = code.match_indices("crate::").map(|(at, found)| &code[at + found.len()..]);
    names.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")).collect()
}

#[test]
fn a1_frames_ranges_and_areas_do_not_know_each_other() {
    let files = source::rust_files();
    let mut wrong = Vec::new();
    for (part, places, allowed) in MAY_USE {
        let mut seen = 0;
        for file in files.iter().filter(|file| places.iter().any(|place| file.path.starts_with(place))) {
            seen += 1;
            let code = code_only(&file.text);
            let others = named(&code).into_iter().filter(|name| !allowed.contains(name));
            wrong.extend(others.map(|other| format!("{}: {part} must not know of {other}", file.path)));
        }
        assert!(seen > 0, "{part}: {places:?} are not there any more");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
