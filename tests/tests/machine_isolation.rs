//! On the machine: programs cannot see what others left, nor do what their rights do not say (features, section 5.3).

use tests::harness::Run;
use tests::programs::{Flavour, Program};
use tests::source::{self, code_only, has_word};

fn run(name: &'static str, argument: &str, options: &str) -> Run {
    let program = Program::C(name, Flavour::Glibc);
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    Run::new([path.to_str().expect("a path in UTF-8"), argument]).options(options)
}

#[test]
fn n8_nothing_that_one_program_leaves_is_seen_by_the_next_through_ram_and_swap() {
    // Each program takes more than there is RAM, so frames and slots are used again.
    let run = run("isolation", "32", "--ram 24M --swap 96M").finish().expect_ok().expect_line("OK isolation");
    assert!(run.count("vmstat/pswpin") > 0 && run.count("vmstat/pswpout") > 0, "{run}");
}

#[test]
fn n8_what_only_the_kernel_may_do_is_refused() {
    run("privileges", "20", "--ram 24M").finish().expect_ok().expect_line("OK privileges");
}

/// The kernel reaches user memory through the direct map only, so nothing needs to open the door that SMAP shuts.
#[test]
fn n8_no_code_of_the_kernel_turns_smap_off() {
    for file in source::rust_files().into_iter().filter(|file| file.path.starts_with("kernel/src/")) {
        let code = code_only(&file.text);
        for word in ["stac", "clac"] {
            // In assembly, too, which is in string literals.
            let in_assembly = [format!("\"{word}\""), format!("{word}\\n")].iter().any(|text| file.text.contains(text));
            assert!(!has_word(&code, word) && !in_assembly, "{}: {word}", file.path);
        }
    }
}
