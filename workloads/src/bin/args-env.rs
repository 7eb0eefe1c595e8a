//! Claim: arguments, environment, working directory and wall clock reach the program. Prints all of them.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use workloads::claim::Claims;

fn main() -> ExitCode {
    let mut claims = Claims::new("args-env");
    let arguments: Vec<_> = std::env::args_os().collect();
    for (index, argument) in arguments.iter().enumerate() {
        println!("argv[{index}]={}", argument.to_string_lossy());
    }
    claims.holds("there is an argv[0]", !arguments.is_empty());
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in &variables {
        println!("env {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    match std::env::current_dir() {
        Ok(directory) => println!("cwd {}", directory.display()),
        Err(error) => claims.holds(format_args!("the working directory has a name: {error}"), false),
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let year = year_of(since_epoch.as_secs());
    claims.holds(format_args!("the wall clock is set (year {year})"), (2024..2100).contains(&year));

    let (monotonic, wall) = (Instant::now(), SystemTime::now());
    std::thread::sleep(Duration::from_millis(20));
    let (monotonic, wall) = (monotonic.elapsed(), wall.elapsed().unwrap_or_default());
    claims.holds(format_args!("20 ms of sleep are {monotonic:?}"), monotonic >= Duration::from_millis(20));
    let apart = monotonic.abs_diff(wall);
    claims.holds(format_args!("both clocks agree to {apart:?}"), apart < Duration::from_secs(1));
    claims.finish(format_args!("args={} env={} year={year}", arguments.len(), variables.len()))
}

/// The year of a time, by the days of each year.
fn year_of(seconds: u64) -> u64 {
    let (mut year, mut days) = (1970, seconds / 86_400);
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = if leap { 366 } else { 365 };
        if days < length {
            return year;
        }
        days -= length;
        year += 1;
    }
}
