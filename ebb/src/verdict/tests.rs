//! One test per way a run can end.

use serde_json::json;

use super::*;
use crate::os::Signal;
use crate::telemetry::{Line, Panic, Record};

const LIMIT: Duration = Duration::from_secs(9);

fn seen(code: i32) -> Observed {
    Observed { status: Some(ExitStatus::from_raw(code << 8)), ..Observed::default() }
}

fn exit(outcome: &str, status: i64, signal: Option<u8>) -> Option<Exit> {
    let record = json!({"type": "exit", "outcome": outcome, "status": status, "signal": signal});
    let Line::Record(record) = Line::parse(&format!("@{record}")) else { panic!() };
    let Record::Exit(exit) = record else { panic!() };
    Some(*exit)
}

fn outcome(seen: &Observed) -> (Outcome, u8) {
    let ending = verdict(seen, LIMIT);
    assert!(!ending.message.is_empty());
    (ending.outcome, ending.status.0)
}

#[test]
fn a_program_s_end_is_the_command_s() {
    for status in [0, 1, 42, 120, 255] {
        let seen = Observed { exit: exit("exited", status, None), ..seen(CLEAN) };
        assert_eq!(outcome(&seen), (Outcome::Exited, status as u8));
    }
    let killed = Observed { exit: exit("signalled", 139, Some(11)), ..seen(CLEAN) };
    assert_eq!(outcome(&killed), (Outcome::Signalled, 139));
    assert!(verdict(&killed, LIMIT).message.contains("SIGSEGV"));
    let oom = Observed { exit: exit("out_of_memory", 137, Some(9)), ..seen(CLEAN) };
    assert_eq!(outcome(&oom), (Outcome::OutOfMemory, 137));
}

#[test]
fn an_exit_record_without_a_clean_end_is_not_believed() {
    for code in [0, 1, PANICKED] {
        let seen = Observed { exit: exit("exited", 0, None), ..seen(code) };
        assert_eq!(outcome(&seen), (Outcome::QemuFailed, 121));
    }
}

#[test]
fn a_clean_end_without_an_exit_record_is_not_believed() {
    assert_eq!(outcome(&seen(CLEAN)), (Outcome::QemuFailed, 121));
    assert!(verdict(&seen(CLEAN), LIMIT).message.contains("no exit record"));
}

#[test]
fn a_triple_fault_is_told_from_success() {
    assert_eq!(outcome(&seen(0)), (Outcome::QemuFailed, 121));
    assert!(verdict(&seen(0), LIMIT).message.contains("triple fault"));
    let paused = Observed { guest_ended: Some("guest-reset".into()), ..seen(0) };
    assert!(verdict(&paused, LIMIT).message.contains("triple fault"));
}

#[test]
fn a_panic_outweighs_everything_but_an_interruption() {
    let panic = Some(Panic { message: "m".into(), frames: vec![] });
    let seen = Observed { panic, exit: exit("exited", 0, None), stop: Some(Stop::Timeout), ..seen(CLEAN) };
    assert_eq!(outcome(&seen), (Outcome::Panic, 122));
    assert_eq!(outcome(&super::tests::seen(PANICKED)), (Outcome::Panic, 122));
    let interrupted = Observed { stop: Some(Stop::Signal(Signal::Interrupt)), ..seen };
    assert_eq!(outcome(&interrupted), (Outcome::Interrupted, 130));
}

#[test]
fn a_refusal_is_bad_input_found_late() {
    let refused = Observed { refused: Some("no such option".into()), ..seen(REFUSED) };
    assert_eq!(outcome(&refused), (Outcome::BadInput, 123));
    assert_eq!(outcome(&seen(REFUSED)), (Outcome::BadInput, 123));
}

#[test]
fn ebb_s_own_stops_have_their_status() {
    let stopped = |stop| Observed { stop: Some(stop), ..seen(0) };
    assert_eq!(outcome(&stopped(Stop::Timeout)), (Outcome::Timeout, 124));
    assert_eq!(outcome(&stopped(Stop::Signal(Signal::Terminate))), (Outcome::Interrupted, 143));
    assert_eq!(outcome(&stopped(Stop::Signal(Signal::HangUp))), (Outcome::Interrupted, 129));
    assert_eq!(outcome(&stopped(Stop::StdoutClosed)), (Outcome::Interrupted, 141));
    assert_eq!(outcome(&stopped(Stop::Stuck)), (Outcome::QemuFailed, 121));
}

#[test]
fn qemu_s_own_words_are_passed_on() {
    let seen = Observed { qemu_messages: "could not set up memory".into(), ..seen(1) };
    assert_eq!(outcome(&seen), (Outcome::QemuFailed, 121));
    assert!(verdict(&seen, LIMIT).message.contains("could not set up memory"));
    let killed = Observed { status: Some(ExitStatus::from_raw(9)), ..Observed::default() };
    assert!(verdict(&killed, LIMIT).message.contains("SIGKILL"));
}
