//! Every way a run can end: its status, its outcome, and that nothing is left running.

use super::bench::{Bench, names, poll, send, wait_gone};

#[test]
fn a_program_s_status_is_the_command_s() {
    for status in [0, 42] {
        let done = Bench::new(&format!("boot; exit exited {status}; end 33")).run();
        done.is("exited", status).says(&format!("exited with status {status}"));
    }
}

#[test]
fn the_report_says_what_happened() {
    let done = Bench::with("boot; exit exited 0; end 33", &["--ram", "32M", "--swap", "1M"])
        .program(&["./prog", "a b", ""])
        .run_as_it_is();
    let report = &done.is("exited", 0).report;
    assert_eq!(report["program"], "./prog");
    assert_eq!(report["args"], serde_json::json!(["a b", ""]));
    assert_eq!((&report["ram_bytes"], &report["swap_bytes"]), (&(32 << 20).into(), &(1 << 20).into()));
    assert_eq!(report["vmstat"]["pswpout"], 3);
    assert_eq!(report["disk"]["swap"]["write_bytes"], 12288);
    assert_eq!(report["disk"]["qemu"]["swap"]["rd_bytes"], 12288);
    assert!(report["boot_ms"].as_f64().unwrap() > 0.0 && report["wall_s"].as_f64().unwrap() > 0.0);
    assert_eq!(report["host"]["qemu"], "10.0.2");
}

#[test]
fn a_signal_and_the_want_of_memory_are_told_apart() {
    Bench::new("boot; exit signalled 139; end 33").run().is("signalled", 139).says("SIGSEGV");
    let held = r#"{"pid":1,"program":"prog","resident":256,"paged_out":512}"#;
    let record =
        format!(r#"{{"type":"oom","killed":{{"pid":1,"program":"prog"}},"held":[{held}],"swap":{{"free":0}}}}"#);
    let done = Bench::new(&format!("boot; say @{record}; exit out_of_memory 137; end 33")).run();
    done.is("out_of_memory", 137)
        .says("killed prog (1); prog (1) held 1.0 MiB in RAM, 2.0 MiB in swap; swap free 0.0 MiB");
    assert_eq!(done.report["out_of_memory"][0]["held"][0]["resident"], 256);
}

#[test]
fn a_panic_has_a_backtrace_with_names() {
    let script =
        "boot; say @{\"type\":\"panic\",\"message\":\"frame freed twice\",\"frames\":[\"0x1\",\"0x2\"]}; end 35";
    let done = Bench::new(script).run();
    done.is("panic", 122).says("frame freed twice").says("at 0x2").says("kernel.log");
    assert_eq!(done.report["panic"]["backtrace"], serde_json::json!(["0x1", "0x2"]));
}

#[test]
fn the_kernel_s_refusal_is_passed_on() {
    let script = "say @{\"type\":\"refused\",\"message\":\"there is no option colour\"}; end 37";
    Bench::new(script).run().is("bad_input", 123).says("there is no option colour");
}

#[test]
fn a_triple_fault_is_not_a_success() {
    Bench::new("boot; out x; reset").run().is("qemu_failed", 121).says("triple fault");
    Bench::new("boot; die 0").run().is("qemu_failed", 121).says("triple fault");
    Bench::new("boot; exit exited 0; reset").run().is("qemu_failed", 121).says("exited with status 0");
}

#[test]
fn an_older_qemu_that_ends_at_once_is_understood_too() {
    Bench::new("boot; out bye; exit exited 7; die 33").run().is("exited", 7);
}

#[test]
fn qemu_s_own_failure_is_passed_on() {
    Bench::new("die 1").run().is("qemu_failed", 121).says("fake: last words");
}

#[test]
fn a_run_past_its_time_is_ended_with_what_is_known() {
    let script = "boot; say @{\"type\":\"snapshot\",\"t_ns\":5,\"vmstat\":{\"pgfault\":77}}; pid pid; hang";
    let mut bench = Bench::with(script, &["--timeout", "1"]).program(&["./prog"]);
    let child = bench.start();
    let pid = bench.qemu_pid("pid");
    let done = bench.finish(child.wait_with_output().unwrap());
    done.is("timeout", 124).says("--timeout");
    assert_eq!(done.report["vmstat"]["pgfault"], 77);
    assert_eq!(done.report["disk"]["qemu"]["swap"]["rd_operations"], 2);
    wait_gone(pid);
}

#[test]
fn a_qemu_that_does_not_listen_is_killed() {
    let deaf = |script, options: &[&str]| Bench::with(script, options).env("EBB_FAKE_DEAF", "1").run();
    deaf("boot; hang", &["--timeout", "1"]).is("timeout", 124);
    deaf("boot; exit exited 0; hang", &[]).is("qemu_failed", 121).says("did not");
}

#[test]
fn ctrl_c_and_kill_end_the_run_and_report() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut bench = Bench::new("boot; out partial; pid pid; hang").program(&["./prog"]);
        let child = bench.start();
        let pid = bench.qemu_pid("pid");
        send(signal, child.id());
        let done = bench.finish(child.wait_with_output().unwrap());
        done.is("interrupted", status);
        assert_eq!(done.stdout, b"partial");
        wait_gone(pid);
    }
}

#[test]
fn no_qemu_survives_an_ebb_that_is_killed() {
    let mut bench = Bench::new("boot; pid pid; hang").env("EBB_FAKE_DEAF", "1").program(&["./prog"]);
    let mut child = bench.start();
    let pid = bench.qemu_pid("pid");
    let scratch = names(&bench.path("out")).into_iter().find(|name| name.starts_with(".run-")).unwrap();
    // The swap image loses its name once QEMU has it open, which may be after the guest has begun.
    poll(|| (names(&bench.path("out").join(&scratch)) == ["qemu.log"]).then_some(()));
    send("KILL", child.id());
    child.wait().unwrap();
    wait_gone(pid);
    // The next run tidies up after it; finish() looks for what is left.
    bench.command.env("EBB_FAKE", "boot; exit exited 0; end 33").env_remove("EBB_FAKE_DEAF");
    let child = bench.start();
    bench.finish(child.wait_with_output().unwrap()).is("exited", 0);
}

#[test]
fn malformed_telemetry_is_reported_and_survived() {
    let done = Bench::new("boot; say @{\"type\":; say @; exit exited 0; end 33").run();
    assert_eq!(done.is("exited", 0).report["kernel_log_warnings"]["count"], 2);
    done.says("malformed telemetry");
}

#[test]
fn the_kernel_s_log_is_kept_and_its_warnings_shown() {
    let bench = Bench::new("say [0.1] INFO mm: quiet; say [0.2] WARN swap: nearly full; boot; exit exited 0; end 33");
    let log = bench.path("out/kernel.log");
    let mut bench = bench.program(&["./prog"]);
    let child = bench.start();
    let done = bench.finish(child.wait_with_output().unwrap());
    assert!(done.is("exited", 0).says("nearly full").stdout.is_empty());
    assert!(!done.stderr.contains("quiet"));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("mm: quiet") && log.contains("nearly full"), "{log}");
}

#[test]
fn ten_thousand_snapshots_are_taken_in() {
    let done = Bench::new("boot; spam 10000; exit exited 0; end 33").run();
    let rows = done.is("exited", 0).report["snapshots"]["rows"].as_array().unwrap().len();
    assert!((1000..=2048).contains(&rows), "{rows}");
}
