//! The command line's options, for whoever asks later. Owns the one copy; `cmdline` understands it.

use crate::cmdline::Options;
use crate::power;
use crate::sync::Once;

static OPTIONS: Once<Options> = Once::new();

/// Understands the command line, keeps the result, opens the channels it names, and refuses what it does not know.
pub fn init(line: &[u8]) -> &'static Options {
    let (options, refusal) = match Options::parse(line) {
        Ok(options) => (options, None),
        Err((refusal, options)) => (options, Some(refusal)),
    };
    let options = OPTIONS.call_once(|| options);
    crate::telemetry::init(options.telemetry);
    crate::log::init(options.log);
    if let Some(refusal) = refusal {
        power::refuse(format_args!("{refusal}"));
    }
    options
}

/// The options, once they are known.
pub fn get() -> Option<&'static Options> {
    OPTIONS.get()
}
