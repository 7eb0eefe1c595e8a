//! Reading the texts under `/proc`: names with values, and lines of numbers.

use std::collections::BTreeMap;

/// A whole file.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `Name:   value kB` and `name value` alike: the first number behind the name.
pub fn values(text: &str) -> BTreeMap<String, u64> {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.trim_end_matches(':').to_owned();
        Some((name, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(value).collect()
}

/// The numbers of a line.
pub fn numbers(line: &str) -> Vec<u64> {
    line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}
