//! The kernel's log: the `log` crate's macros, to the telemetry channel, or to the console when there is none.
//!
//! Owns: format and level. One line a message: time since boot, level, target without the crate's name, text.

use log::{LevelFilter, Log, Metadata, Record};

use crate::cmdline::Level;
use crate::{console, telemetry, time};

struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let target = record.target();
        let target = target.strip_prefix("kernel::").unwrap_or(target);
        let (time, level, text) = (time::now(), record.level(), record.args());
        if !telemetry::log_line(format_args!("[{time}] {level:5} {target}: {text}")) {
            console::print(format_args!("[{time}] {level:5} {target}: {text}\n"));
        }
    }

    fn flush(&self) {}
}

/// Starts logging at a level.
pub fn init(level: Level) {
    let filter = match level {
        Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Debug => LevelFilter::Debug,
        Level::Trace => LevelFilter::Trace,
    };
    // Fails only if there is a logger already: then this is a change of level.
    let _ = log::set_logger(&KernelLog);
    log::set_max_level(filter);
}
