//! `ebb`: runs a program in less memory than it needs, on the Ebb kernel in QEMU, and says what that did to it.
//!
//! Owns: the command line, the exit status, and everything on the host side of a run. Does not own:
//! on-disk formats (`disk-image`), the kernel's side of the two serial lines (`kernel`).
//!
//! One run, in order:
//! [`cli`] → [`plan`] (every check that needs no machine: [`size`], [`out_dir`], [`program`] with
//! [`program_check`], [`swap_image`], [`cmdline`]; builds with [`cargo`]) → [`qemu`] → [`session`]
//! (relays [`console`], reads [`telemetry`], draws [`live`]) → [`verdict`] → [`report`], [`summary`].

// For the kernel's own source file that the tests of `cmdline` take in.
#[cfg(test)]
extern crate alloc;

mod accel;
mod belady;
mod cargo;
mod cli;
mod cmdline;
mod console;
mod data_image;
mod ending;
mod live;
mod more_ram;
mod os;
mod out_dir;
mod plan;
mod program;
mod program_check;
mod qemu;
mod report;
mod run;
mod session;
mod size;
mod summary;
mod swap_image;
mod symbols;
mod telemetry;
mod verdict;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed stderr here.
            let _ = error.print();
            if !error.use_stderr() {
                return ExitCode::SUCCESS;
            }
            let complaint = error.to_string();
            let complaint = complaint.lines().next().unwrap_or_default();
            return run::misused(cli::named_out(std::env::args_os()), complaint).into();
        }
    };
    match cli.command {
        cli::Command::Run(arguments) => run::run(&arguments).into(),
    }
}
