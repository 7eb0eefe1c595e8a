//! `key=value` arguments of the small programs.

use std::process::exit;

/// Reads numbers given as `key=value` into the variables of `keys`. With anything else on the command line it explains
/// itself (`about` first) and ends the program: with status 0 for `--help`, 2 otherwise.
pub fn parse(about: &str, keys: &mut [(&str, &mut u64)]) {
    for argument in std::env::args_os().skip(1) {
        let argument = argument.to_string_lossy();
        let pair = argument.split_once('=').and_then(|(key, value)| Some((key, value.parse().ok()?)));
        let field = pair.and_then(|(key, value)| {
            let (_, field) = keys.iter_mut().find(|(name, _)| *name == key)?;
            Some((field, value))
        });
        if let Some((field, value)) = field {
            **field = value;
            continue;
        }
        let defaults: Vec<String> = keys.iter().map(|(name, value)| format!("[{name}={value}]")).collect();
        let help = format!("{about}\narguments: {}", defaults.join(" "));
        if argument == "--help" || argument == "-h" {
            println!("{help}");
            exit(0);
        }
        eprintln!("{argument:?} is not understood\n{help}");
        exit(2);
    }
}
