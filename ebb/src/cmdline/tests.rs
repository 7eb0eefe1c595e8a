//! Round trips through the kernel's own half of the rule.

use std::os::unix::ffi::OsStringExt as _;

use super::*;

/// The very file the kernel is built from: what ebb joins, it must split.
#[allow(dead_code, reason = "only the splitting matters here")]
#[path = "../../../kernel/src/cmdline.rs"]
mod kernel;

/// The environment and the arguments that the kernel understands.
fn split(line: &str) -> (Vec<String>, Vec<String>) {
    let options = kernel::Options::parse(line.as_bytes()).map_err(|(refusal, _)| refusal).unwrap();
    (options.env, options.argv)
}

fn words(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

/// Sends words through as arguments, and as values of variables.
fn round_trip(list: &[&str]) {
    let variables: Vec<_> = list.iter().map(|word| format!("X={word}")).collect();
    let options: Vec<_> = variables.iter().map(|variable| OsString::from(format!("env={variable}"))).collect();
    let line = join(&options, &words(list)).unwrap();
    let list = list.iter().map(ToString::to_string).collect();
    assert_eq!(split(&line), (variables, list), "{line}");
}

#[test]
fn plain_words_stay_as_they_are() {
    let line = join(&words(&["exit=debug", "log=info"]), &words(&["pressure", "seq-write", "mib=192"])).unwrap();
    assert_eq!(line, "exit=debug log=info -- pressure seq-write mib=192");
    assert_eq!(join(&[], &words(&["a"])).unwrap(), "-- a");
    assert_eq!(join(&[], &words(&[r"C:\x", "it's"])).unwrap(), r"-- C:\x it's");
}

#[test]
fn awkward_words_are_quoted() {
    assert_eq!(join(&[], &words(&["a b", "", "--", "\"x\" \\"])).unwrap(), r#"-- "a b" "" "--" "\"x\" \\""#);
}

#[test]
fn every_word_comes_back_unchanged() {
    let awkward = [
        "",
        " ",
        "\"",
        "\\",
        "\\\"",
        "a b",
        "\"quoted\"",
        "mid\"dle",
        "tab\there",
        "line\nbreak",
        "--",
        "-- --",
        "\\\\ ",
        "ü ñ",
        "trailing\\ ",
        "a\"b c\"d",
        "\u{a0}",
        "\u{b}",
    ];
    round_trip(&awkward);
    for word in awkward {
        round_trip(&[word]);
    }
    let all: String = (1..1000).filter_map(char::from_u32).collect();
    assert_eq!(split(&join(&[], &words(&[&all])).unwrap()).1, [all]);
}

#[test]
fn every_short_word_over_the_special_characters_comes_back_unchanged() {
    let alphabet = ['"', '\\', ' ', '-', 'a'];
    for code in 0..5usize.pow(5) {
        let word: String = (0..5).map(|place| alphabet[code / 5usize.pow(place) % 5]).collect();
        for length in 0..=5 {
            round_trip(&[&word[..length], "end"]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(join(&[], &[OsString::from("x".repeat(LIMIT - 3))]).is_ok());
    assert_eq!(join(&[], &[OsString::from("x".repeat(LIMIT - 2))]), Err(CmdlineError::TooLong { bytes: LIMIT + 1 }));
    assert_eq!(join(&words(&["--"]), &[]), Err(CmdlineError::SeparatorAsOption));
    let bytes = OsString::from_vec(vec![b'a', 0xff]);
    assert!(matches!(join(&[], &[bytes]), Err(CmdlineError::NotUtf8(_))));
}
