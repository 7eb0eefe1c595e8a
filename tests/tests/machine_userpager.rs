//! On the machine: programs that supply pages, their own or others'.

use tests::harness::Run;

/// X14: a user program serves a mapping's pages by computing them, for three threads that touch them.
#[test]
fn x14_a_program_serves_the_pages_of_a_mapping() {
    for scenario in ["serve", "blocking", "part", "zero", "wake"] {
        let run = Run::line(&format!("userpager {scenario}")).options("--ram 24M").finish().expect_ok();
        run.expect_line("OK userpager");
    }
}

/// X14, H12: pagers that answer twice, close, refuse, never answer or wait for themselves harm nobody but their clients.
#[test]
fn h12_a_pager_that_misbehaves_harms_only_its_clients() {
    for scenario in ["twice", "close", "refusals", "child", "silent", "itself"] {
        let run = Run::line(&format!("userpager {scenario}")).options("--ram 24M").finish().expect_ok();
        run.expect_line("OK userpager");
    }
}
