//! The kernel's half of the rule as a model, and round trips through it.

use super::*;

/// Splits a line as the kernel must: `(options, argv)`.
fn split(line: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut options, mut argv, mut after) = (Vec::new(), Vec::new(), false);
    let mut rest = line;
    while let Some((word, quoted, tail)) = next_word(rest) {
        rest = tail;
        match (after, !quoted && word == b"--") {
            (false, true) => after = true,
            (false, false) => options.push(word),
            (true, _) => argv.push(word),
        }
    }
    (options, argv)
}

fn next_word(line: &[u8]) -> Option<(Vec<u8>, bool, &[u8])> {
    let start = line.iter().position(|byte| !is_separator(*byte))?;
    let line = &line[start..];
    if line[0] != b'"' {
        let end = line.iter().position(|byte| is_separator(*byte)).unwrap_or(line.len());
        return Some((line[..end].to_vec(), false, &line[end..]));
    }
    let (mut word, mut index) = (Vec::new(), 1);
    while line[index] != b'"' {
        index += usize::from(line[index] == b'\\');
        word.push(line[index]);
        index += 1;
    }
    let tail = &line[index + 1..];
    assert!(tail.first().is_none_or(|byte| is_separator(*byte)), "a quoted word ends at a separator");
    Some((word, true, tail))
}

fn words(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

fn round_trip(options: &[OsString], argv: &[OsString]) {
    let line = join(options, argv).unwrap();
    let bytes = |list: &[OsString]| list.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(split(line.as_bytes()), (bytes(options), bytes(argv)), "{line:?}");
}

#[test]
fn plain_words_stay_as_they_are() {
    let line = join(&words(&["exit=debug", "log=info"]), &words(&["pressure", "seq-write", "mib=192"])).unwrap();
    assert_eq!(line, "exit=debug log=info -- pressure seq-write mib=192");
    assert_eq!(join(&[], &words(&["a"])).unwrap(), "-- a");
    assert_eq!(join(&[], &words(&[r"C:\x", "it's", "a\"b"])).unwrap(), r#"-- C:\x it's a"b"#);
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
        "tab\there",
        "line\nbreak",
        "--",
        "-- --",
        "\\\\ ",
        "ü ñ",
        "trailing\\ ",
        "a\"b c\"d",
    ];
    round_trip(&words(&["env=X=a b", "\"odd"]), &words(&awkward));
    for word in awkward {
        round_trip(&[], &words(&[word]));
    }
    round_trip(&[], &[OsString::from_vec((1..=255).collect()), OsString::from_vec(vec![0xff, b' ', 0xfe])]);
}

#[test]
fn every_short_word_over_the_special_bytes_comes_back_unchanged() {
    let alphabet = [b'"', b'\\', b' ', b'-', b'a'];
    for code in 0..5usize.pow(5) {
        let word: Vec<u8> = (0..5).map(|place| alphabet[code / 5usize.pow(place) % 5]).collect();
        for length in 0..=5 {
            round_trip(&[], &[OsString::from_vec(word[..length].to_vec()), OsString::from("end")]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(join(&[], &[OsString::from("x".repeat(LIMIT - 3))]).is_ok());
    assert_eq!(join(&[], &[OsString::from("x".repeat(LIMIT - 2))]), Err(CmdlineError::TooLong { bytes: LIMIT + 1 }));
    assert_eq!(join(&words(&["--"]), &[]), Err(CmdlineError::SeparatorAsOption));
}
