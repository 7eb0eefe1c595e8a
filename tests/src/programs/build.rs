//! Executables on demand: the workloads through cargo, C programs through the C compiler.
//!
//! Both land in the target directory. A C program's file name holds a hash of its source, of the header that programs share,
//! and of its command line, so a stale one is never found; it is renamed into place when complete, so tests may build the
//! same one at the same time.

use std::env;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::debian::Package;

/// What the workloads and the C programs are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Flags of every C program.
const C_FLAGS: [&str; 7] = ["-O2", "-Wall", "-Wextra", "-Werror", "-frounding-math", "-pthread", "-s"];

/// How a C program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// glibc, static, at fixed addresses.
    Glibc,
    /// glibc, static, position-independent: the program relocates itself.
    GlibcPie,
    /// musl, static.
    Musl,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::GlibcPie => "glibc-pie",
            Self::Musl => "musl",
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Glibc => &["gcc", "-static", "-no-pie"],
            Self::GlibcPie => &["gcc", "-static-pie", "-fPIE"],
            Self::Musl => &["musl-gcc", "-static"],
        }
    }
}

/// A program that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// A binary of the workloads crate.
    Workload(&'static str),
    /// `tests/programs/NAME.c`.
    C(&'static str, Flavour),
    /// Not ours, from Debian.
    Debian(Package),
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => write!(out, "{name}"),
            Self::C(name, flavour) => write!(out, "{name}.c ({})", flavour.name()),
            Self::Debian(package) => write!(out, "{}", package.name()),
        }
    }
}

/// Why there is no executable.
#[derive(Debug)]
pub enum BuildError {
    /// A compiler could not be started, or a file not be written.
    Io(String, io::Error),
    /// A compiler complained.
    Compiler(String, String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(out, "{what}: {error} (setup.sh installs what tests need)"),
            Self::Compiler(what, messages) => write!(out, "{what} failed:\n{messages}"),
        }
    }
}

impl Program {
    /// The path of the executable, built if need be.
    pub fn build(self) -> Result<PathBuf, BuildError> {
        match self {
            Self::Workload(name) => Ok(workloads()?.join(name)),
            Self::C(name, flavour) => c_program(name, flavour),
            Self::Debian(package) => package.build(),
        }
    }
}

/// The directory of the workloads, built once per process; cargo knows whether there is anything to do.
fn workloads() -> Result<&'static Path, BuildError> {
    static BUILT: OnceLock<Result<PathBuf, (String, String)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--release", "--package", "workloads", "--target", TARGET]);
        cargo
            .current_dir(workspace())
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("CARGO_TARGET_DIR", target());
        match run(&mut cargo, "cargo build of the workloads") {
            Ok(()) => Ok(target().join(TARGET).join("release")),
            Err(BuildError::Compiler(what, messages)) => Err((what, messages)),
            Err(BuildError::Io(what, error)) => Err((what, error.to_string())),
        }
    });
    built.as_deref().map_err(|(what, messages)| BuildError::Compiler(what.clone(), messages.clone()))
}

fn c_program(name: &str, flavour: Flavour) -> Result<PathBuf, BuildError> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let read = |path: &Path| fs::read(path).map_err(|error| BuildError::Io(path.display().to_string(), error));
    let source = workspace().join("tests/programs").join(name).with_extension("c");
    let text = [read(&source)?, read(&source.with_file_name("check.h"))?];
    let directory = target().join("test-programs");
    fs::create_dir_all(&directory).map_err(|error| BuildError::Io(directory.display().to_string(), error))?;

    let [compiler, linkage @ ..] = flavour.command() else { unreachable!("every flavour has a compiler") };
    let extra: &[&str] = if name == "avx2" { &["-mavx2"] } else { &[] };
    let mut hasher = DefaultHasher::new();
    (&text, flavour.command(), C_FLAGS, extra).hash(&mut hasher);
    let path = directory.join(format!("{name}-{}-{:016x}", flavour.name(), hasher.finish()));
    if path.exists() {
        return Ok(path);
    }
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{serial}", process::id()));
    let mut command = Command::new(compiler);
    command.args(linkage).args(C_FLAGS).args(extra).arg("-o").arg(&unfinished).arg(&source).arg("-lm");
    run(&mut command, &format!("{compiler} of {}", source.display()))?;
    fs::rename(&unfinished, &path).map_err(|error| BuildError::Io(path.display().to_string(), error))?;
    Ok(path)
}

pub(super) fn run(command: &mut Command, what: &str) -> Result<(), BuildError> {
    let output = command.output().map_err(|error| BuildError::Io(what.to_owned(), error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BuildError::Compiler(what.to_owned(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a room of the workspace")
}

pub(super) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |directory| workspace().join(directory))
}
