//! Builds the kernel and the workloads, so that what runs is never older than its source.
//!
//! Owns: finding the source tree, running cargo quietly, and learning from it where the files are.
//! Does not own what is built: that is the workspace's.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::ending::Ending;

/// After so long a build is announced, because silence would look like a hang.
const PATIENCE: Duration = Duration::from_secs(2);
/// Variables that would replace the flags the workspace's configuration sets for the kernel (facts: a
/// `RUSTFLAGS` variable replaces the table silently, and the kernel then does not link).
const FLAG_VARIABLES: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"];
const WORKLOAD_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The directory of the workspace.
#[derive(Clone, Debug)]
pub struct SourceTree(PathBuf);

/// Executables that cargo says it has made.
#[derive(Debug, Default)]
pub struct BuiltPrograms(Vec<(String, PathBuf)>);

impl SourceTree {
    /// `EBB_ROOT`, or the tree this ebb was built in, if it is still there.
    pub fn find() -> Option<Self> {
        let root = match std::env::var_os("EBB_ROOT") {
            Some(root) => PathBuf::from(root),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.to_owned(),
        };
        (root.join("kernel/Cargo.toml").is_file() && root.join("workloads/Cargo.toml").is_file()).then_some(Self(root))
    }

    /// Where runs put their reports unless told otherwise.
    pub fn default_out(&self) -> PathBuf {
        self.0.join("target/ebb-out")
    }

    /// Builds the kernel and returns its file.
    ///
    /// # Errors
    /// When cargo fails; its messages are printed.
    pub fn build_kernel(&self) -> Result<PathBuf, Ending> {
        let command = self.cargo(&["kernel", "--release"]);
        build(command, "the kernel")?
            .find(OsStr::new("kernel"))
            .ok_or_else(|| Ending::internal("cargo built the kernel but named no file for it"))
    }

    /// Builds all workloads.
    ///
    /// # Errors
    /// When cargo fails; its messages are printed.
    pub fn build_workloads(&self) -> Result<BuiltPrograms, Ending> {
        let mut command = self.cargo(&["build", "--release", "--package", "workloads", "--target", WORKLOAD_TARGET]);
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
        build(command, "the workloads")
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.current_dir(&self.0).args(arguments).args(["--message-format", "json-render-diagnostics"]);
        for variable in FLAG_VARIABLES {
            command.env_remove(variable);
        }
        command
    }
}

impl BuiltPrograms {
    /// The file of one.
    pub fn find(&self, name: &OsStr) -> Option<PathBuf> {
        self.0.iter().find(|(known, _)| OsStr::new(known) == name).map(|(_, path)| path.clone())
    }

    /// All their names, in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn from_messages(messages: &str) -> Self {
        #[derive(Deserialize)]
        struct Message {
            executable: Option<PathBuf>,
            target: Option<Target>,
        }
        #[derive(Deserialize)]
        struct Target {
            name: String,
        }
        let program = |line| {
            let message: Message = serde_json::from_str(line).ok()?;
            Some((message.target?.name, message.executable?))
        };
        Self(messages.lines().filter_map(program).collect())
    }
}

/// Runs cargo with its messages kept back unless it fails.
fn build(mut command: Command, what: &str) -> Result<BuiltPrograms, Ending> {
    let start = |error| Ending::internal(format!("cannot start cargo to build {what}: {error} (run ./setup.sh)"));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // A broken pipe leaves what was read; cargo's exit status decides.
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let messages = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let errors = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    announce_if_slow(&messages, what);
    let (messages, errors) = (messages.join().unwrap_or_default(), errors.join().unwrap_or_default());
    let status = child.wait().map_err(|error| Ending::internal(format!("cannot wait for cargo: {error}")))?;
    if status.success() {
        return Ok(BuiltPrograms::from_messages(&messages));
    }
    eprint!("{errors}");
    Err(Ending::internal(format!("cargo could not build {what} ({status}); its messages are above")))
}

fn announce_if_slow(build: &std::thread::JoinHandle<String>, what: &str) {
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while !build.is_finished() {
        if waited == PATIENCE {
            eprintln!("ebb: building {what} …");
        }
        std::thread::sleep(step);
        waited += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_s_messages_name_the_executables() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"workloads\",\"kind\":[\"lib\"]},\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"pressure\",\"kind\":[\"bin\"]},\"executable\":\"/t/pressure\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\nnot JSON\n"
        );
        let built = BuiltPrograms::from_messages(messages);
        assert_eq!(built.names(), ["pressure"]);
        assert_eq!(built.find(OsStr::new("pressure")), Some(PathBuf::from("/t/pressure")));
        assert_eq!(built.find(OsStr::new("workloads")), None);
    }
}
