//! What a scenario runs: `ebb`, the kernel, the workloads and the wrapper of QEMU, built once per process.
//!
//! Owns: the cargo commands. They are no-ops after `just test` has built everything, so a single test can also be run by
//! hand and never runs anything stale. Neighbour: `programs`, which builds single programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::source;

const KERNEL_TARGET: &str = "x86_64-unknown-none";
const WORKLOAD_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Variables that would replace the flags in `.cargo/config.toml`, without which the kernel does not link.
const FLAG_VARIABLES: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"];

/// How a kernel is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Optimised, with every assertion on: identities are asserted at each snapshot.
    Checked,
    /// As users get it.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Checked => "checked",
            Self::Release => "release",
        }
    }
}

/// Paths of everything that runs.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The host tool.
    pub ebb: PathBuf,
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The directory of the workloads.
    pub workloads: PathBuf,
    /// The program that `ebb` takes for QEMU.
    pub wrapper: PathBuf,
}

impl Artifacts {
    /// With the kernel that tests run.
    pub fn checked() -> &'static Self {
        static BUILT: OnceLock<Artifacts> = OnceLock::new();
        BUILT.get_or_init(|| Self::build(Profile::Checked))
    }

    /// With the kernel that figures are taken of.
    pub fn release() -> &'static Self {
        static BUILT: OnceLock<Artifacts> = OnceLock::new();
        BUILT.get_or_init(|| Self::build(Profile::Release))
    }

    fn build(kernel: Profile) -> Self {
        cargo(&["build", "--bin", "ebb", "--profile", "checked"], None);
        cargo(&["build", "--package", "tests", "--bin", "qemu-with", "--profile", "checked"], None);
        cargo(&["kernel", "--profile", kernel.name()], None);
        cargo(
            &["build", "--package", "workloads", "--target", WORKLOAD_TARGET, "--release"],
            Some("-C target-feature=+crt-static"),
        );
        let target = target();
        Self {
            ebb: target.join("checked/ebb"),
            kernel: target.join(KERNEL_TARGET).join(kernel.name()).join("kernel"),
            workloads: target.join(WORKLOAD_TARGET).join("release"),
            wrapper: target.join("checked/qemu-with"),
        }
    }
}

/// Where cargo puts what it builds.
pub(super) fn target() -> PathBuf {
    let root = source::root();
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |directory| root.join(directory))
}

fn cargo(arguments: &[&str], flags: Option<&str>) {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(source::root())).args(arguments).arg("--quiet");
    for variable in FLAG_VARIABLES {
        command.env_remove(variable);
    }
    command.env("CARGO_TARGET_DIR", target()).envs(flags.map(|flags| ("RUSTFLAGS", flags)));
    let output = command.output().unwrap_or_else(|error| panic!("cargo cannot be started: {error}"));
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {} failed:\n{messages}", arguments.join(" "));
}
