//! `pressure KIND [key=value …]`: the main workload. Claim: whatever was written to memory comes back, however little RAM
//! there is. `pressure --help` lists kinds and keys.

use std::process::ExitCode;

use workloads::pressure::{self, HELP, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("pressure: {error}\ntry: pressure --help");
            return ExitCode::from(2);
        }
    };
    let kind = options.kind.name();
    match pressure::run(&options) {
        Ok(()) => {
            if options.trace == 0 {
                println!("OK {kind}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAIL {kind} {failure}");
            ExitCode::FAILURE
        }
    }
}
