//! Nothing but one constant says how large a page is: the memory manager's tests pass with pages of 16 KiB, too.
//!
//! That is another build of `mm`, so it is made by another cargo.

use std::process::Command;

use tests::harness::soak;
use tests::source;

fn passes(arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let mut command = Command::new(cargo);
    command.current_dir(source::root()).args(["test", "--quiet", "--offline", "--profile", "checked"]).args(arguments);
    // The full counts are asked of the machine's pages. Here a few seeds show what they can: that nothing counts on 4 KiB.
    command.env_remove("EBB_SOAK");
    let output = command.output().expect("cargo runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("test result: ok"), "{arguments:?}\n{text}");
}

#[test]
fn a3_the_memory_manager_is_right_with_pages_of_16_kib() {
    passes(&["--package", "mm", "--features", "sim,page-16k"]);
    if soak() {
        passes(&["--package", "tests", "--features", "page-16k", "--test", "mm_paging", "--test", "mm_storm"]);
    }
}
