//! The kernel's command line, tested on the host: the file is the kernel's own, and uses nothing else of it.

extern crate alloc;

#[path = "../../kernel/src/cmdline.rs"]
mod cmdline;

use cmdline::{
    Aslr, Compress, ExitMode, FailFrame, Failing, Level, Module, Options, Promises, Refusal, Secrecy, SelfTest, Stdin,
    Swap, Telemetry, Torture,
};
use proptest::prelude::*;

fn parse(line: &str) -> Options {
    Options::parse(line.as_bytes()).expect("a valid command line")
}

fn refusal(line: &str) -> Refusal {
    Options::parse(line.as_bytes()).expect_err("not a valid command line").0
}

/// As `ebb` does it.
fn quote(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn an_empty_line_means_every_default() {
    for line in ["", "   ", "--", " -- "] {
        assert_eq!(parse(line), Options::default(), "{line:?}");
    }
    let defaults = Options::default();
    assert_eq!((defaults.exit, defaults.telemetry, defaults.stdin), (ExitMode::PowerOff, Telemetry::Off, Stdin::Empty));
    assert_eq!((defaults.snapshot_ms, defaults.swap, defaults.torture), (250, Swap::Auto, Torture::Off));
}

#[test]
fn every_option_is_understood() {
    let options = parse(
        "exit=debug telemetry=com2 stdin=com1 log=trace init=/bin/sh aslr=on mm.torture \
         mm.overcommit=2 swap=off swap.encrypt=on swap.compress=on module=keep snapshot_ms=50 disk_timeout_ms=70 fail_frame=2..30 \
         selftest=pat selftest=layout env=A=1 env=B=x=y \
         \"beside=spin ms=5\" beside=other -- prog -v",
    );
    let expected = Options {
        exit: ExitMode::Debug,
        telemetry: Telemetry::Com2,
        stdin: Stdin::Com1,
        log: Level::Trace,
        init: Some("/bin/sh".into()),
        aslr: Aslr::On,
        torture: Torture::On,
        promises: Promises::Kept,
        swap: Swap::Off,
        secrecy: Secrecy::Encrypted,
        compress: Compress::On,
        module: Module::Keep,
        snapshot_ms: 50,
        disk_timeout_ms: 70,
        fail_frame: Some(FailFrame { first: 2, last: 30, failing: Failing::Once }),
        selftests: vec![SelfTest::Pat, SelfTest::Layout],
        env: vec!["A=1".into(), "B=x=y".into()],
        beside: vec![vec!["spin".into(), "ms=5".into()], vec!["other".into()]],
        argv: vec!["prog".into(), "-v".into()],
    };
    assert_eq!(options, expected);
}

#[test]
fn swap_is_compressed_always_never_or_while_it_pays() {
    let choices = ["", "swap.compress=off", "swap.compress=on", "swap.compress=auto"].map(|line| parse(line).compress);
    assert_eq!(choices, [Compress::Off, Compress::Off, Compress::On, Compress::Auto]);
}

#[test]
fn frames_fail_once_or_for_good() {
    let failing = |option: &str| parse(option).fail_frame;
    assert_eq!(failing("fail_frame=7"), Some(FailFrame { first: 7, last: 7, failing: Failing::Once }));
    let for_good = Some(FailFrame { first: 1, last: 300, failing: Failing::ForGood });
    assert_eq!(failing("fail_frame=children:1..300"), for_good);
}

#[test]
fn checks_have_names_of_their_own() {
    let all = parse("selftest=all").selftests;
    for test in &all {
        assert_eq!(parse(&format!("selftest={}", test.name())).selftests, [*test]);
    }
    assert_eq!(all.len(), SelfTest::ALL.len());
}

#[test]
fn the_log_tells_more_when_it_has_a_channel_of_its_own() {
    assert_eq!(parse("").log, Level::Warn);
    assert_eq!(parse("telemetry=com2").log, Level::Info);
    assert_eq!(parse("log=error telemetry=com2").log, Level::Error);
}

#[test]
fn what_follows_the_separator_is_never_an_option() {
    assert_eq!(parse("-- prog swap=off -- mm.torture").argv, ["prog", "swap=off", "--", "mm.torture"]);
    assert_eq!(parse("-- prog swap=off").swap, Swap::Auto);
    assert_eq!(refusal("\"--\" prog"), Refusal::Unknown("--".into()), "a quoted separator separates nothing");
}

#[test]
fn unknown_options_are_named() {
    for line in ["quiet", "exit=debug ro quiet", "console=ttyS0", "Exit=debug", "mm.tortured"] {
        let Refusal::Unknown(option) = refusal(line) else { panic!("{line:?} is refused for another reason") };
        assert!(line.split(' ').any(|word| word == option), "{line:?} names {option:?}");
    }
}

#[test]
fn known_options_with_other_values_are_named_too() {
    for option in [
        "exit=now",
        "swap.encrypt",
        "swap.encrypt=yes",
        "swap.compress",
        "swap.compress=lz4",
        "exit",
        "telemetry=com1",
        "stdin=",
        "log=loud",
        "log",
        "init=",
        "mm.torture=1",
        "mm.overcommit",
        "mm.overcommit=3",
        "swap=on",
        "env=A",
        "env==A",
        "selftest",
        "selftest=everything",
        "fail_frame",
        "fail_frame=0",
        "fail_frame=3..2",
        "fail_frame=..",
        "fail_frame=children",
        "fail_frame=children:0",
        "fail_frame=1..2:children",
        "aslr=yes",
        "module=free",
        "beside=",
    ] {
        assert!(matches!(refusal(option), Refusal::BadValue(found, _) if found == option), "{option}");
    }
    for option in
        ["disk_timeout_ms=0", "snapshot_ms=0", "snapshot_ms=-1", "snapshot_ms=ten", "snapshot_ms=99999999999999999999"]
    {
        assert!(matches!(refusal(option), Refusal::BadValue(found, _) if found == option), "{option}");
    }
}

#[test]
fn a_refused_value_comes_with_those_that_would_do() {
    let said = "the value is not valid in kernel option \"swap.compress=lz4\": it takes on, off or auto";
    assert_eq!(refusal("swap.compress=lz4").to_string(), said);
    let said = refusal("selftest=everything").to_string();
    assert!(SelfTest::ALL.iter().all(|(name, _)| said.contains(name)), "{said}");
}

#[test]
fn a_refusal_says_where_to_report_it_wherever_the_options_stand() {
    for line in ["exit=debug telemetry=com2 nonsense", "nonsense telemetry=com2 exit=debug"] {
        let (refusal, options) = Options::parse(line.as_bytes()).unwrap_err();
        assert_eq!(refusal.to_string(), "unknown kernel option \"nonsense\"");
        assert_eq!((options.exit, options.telemetry), (ExitMode::Debug, Telemetry::Com2));
    }
}

#[test]
fn quotes_may_open_anywhere_in_a_word_and_must_close() {
    assert_eq!(parse(r#"env="A=b c" -- "my prog" x" y "z "" 'single'"#).argv, ["my prog", "x y z", "", "'single'"]);
    assert_eq!(parse(r#"env="A=b c""#).env, ["A=b c"]);
    assert_eq!(parse(r#"-- a\b "a\\b" "a\"b""#).argv, [r"a\b", r"a\b", r#"a"b"#]);
    for line in [r#"-- "open"#, r#"-- "open\"#, r#"-- "open\""#] {
        assert_eq!(refusal(line), Refusal::OpenQuote);
    }
}

#[test]
fn bytes_that_are_not_text_are_refused_and_not_guessed() {
    assert_eq!(Options::parse(b"-- prog \xff").unwrap_err().0, Refusal::NotUtf8);
}

proptest! {
    #[test]
    fn any_arguments_pass_unchanged(argv in prop::collection::vec("\\PC*|[ \"\\\\\t-]*", 0..8)) {
        let line = argv.iter().fold("exit=debug --".to_owned(), |line, word| line + " " + &quote(word));
        prop_assert_eq!(parse(&line).argv, argv);
    }

    #[test]
    fn no_line_of_bytes_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Options::parse(&line);
    }
}
