//! The layout of an address space: the file is the kernel's own, and `docs/layout.md` is made of it.

#[path = "../../kernel/src/arch/x86_64/layout.rs"]
#[allow(dead_code, reason = "the kernel uses more of it")]
mod layout;

use layout::{Holds, REGIONS, Region};
use tests::source;

const HEAD: &str = "\
# What is where in an address space

<!-- Generated from kernel/src/arch/x86_64/layout.rs: `EBB_WRITE_DOCS=1 cargo test -p tests --test kernel_layout`. -->

The same table is printed by a kernel that is told `selftest=layout`, after it has looked at every page that its tables
map. The lower half is each program's own, the upper half is the same in every address space.

| first address | last address | what | how it may be mapped |
|---|---|---|---|
";

#[test]
fn p18_the_page_about_the_layout_is_made_of_the_kernels_constants() {
    let rows: Vec<_> = REGIONS.iter().map(|region| format!("{region}\n")).collect();
    let page = HEAD.to_owned() + &rows.concat();
    let path = source::root().join("docs/layout.md");
    if std::env::var_os("EBB_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("docs/layout.md"), page, "EBB_WRITE_DOCS=1 writes it anew");
}

#[test]
fn p18_regions_cover_everything_once() {
    assert_eq!((REGIONS[0].start, REGIONS[REGIONS.len() - 1].last), (0, u64::MAX));
    for region in &REGIONS {
        assert_eq!((Region::of(region.start), Region::of(region.last)), (region, region));
    }
    let by_address = |address| Region::of(address).holds;
    assert_eq!(by_address(0xfff), Holds::Nothing, "null pointers fault");
    assert_eq!(by_address(0x7fff_ffff_efff), Holds::Program);
    assert_eq!(by_address(0x7fff_ffff_f000), Holds::Nothing, "a syscall at the end must not return to a bad address");
}
