//! The output directory: what ebb writes there, and what it leaves alone.
//!
//! Owns: `report.json` and `kernel.log` (only ever replaced if an earlier run wrote them), a scratch
//! directory that is gone after the run, or, if the run was killed, after the next one, and that one run
//! at a time writes there. Does not own what is in the report (`report`).

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ending::Ending;

/// First bytes of a report, by which ebb knows its own.
pub const REPORT_START: &str = "{\n  \"generator\": \"ebb ";
const LOG_START: &str = "# Ebb kernel log\n";
const REPORT: &str = "report.json";
const LOG: &str = "kernel.log";
/// Followed by the process id, a dash, and letters and digits drawn at random.
const SCRATCH_PREFIX: &str = ".run-";
const SCRATCH_RANDOM: usize = 6;

/// A run's own directory, removed with the value.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    /// Held for as long as the run lasts, and given up by the system if ebb is killed.
    _lock: File,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A directory that ebb may write into.
#[derive(Debug)]
pub struct OutDir {
    path: PathBuf,
    /// The directory itself, locked (flock(2)): nothing is left behind, and the system unlocks it however ebb ends.
    _lock: File,
}

impl OutDir {
    /// Makes the directory if need be, and checks that writing there harms nothing.
    ///
    /// # Errors
    /// When it is no directory, cannot be written, or holds a report or log of somebody else's.
    pub fn open(path: &Path) -> Result<Self, Ending> {
        let shown = path.display();
        std::fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                Ending::bad_input(format!("--out {shown} is a file, not a directory: name a directory"))
            }
            _ => Ending::bad_input(format!(
                "--out {shown} cannot be made: {error}; name a directory that can be written"
            )),
        })?;
        let lock = File::open(path).map_err(|error| unusable(path, &error))?;
        // Some file systems cannot lock directories: there, two runs at once are the user's to avoid.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Ending::bad_input(format!(
                "--out {shown} is where another run is writing now: wait for it or name another --out"
            )));
        }
        for (name, start) in [(REPORT, REPORT_START), (LOG, LOG_START)] {
            let file = path.join(name);
            if !is_ours(&file, start) {
                let file = file.display();
                return Err(Ending::bad_input(format!(
                    "{file} was not written by ebb and would be overwritten: move it away or name another --out"
                )));
            }
        }
        // The one reliable test of whether files can be made: to make one.
        tempfile::tempfile_in(path).map_err(|error| unusable(path, &error))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory, if an earlier run has left its report there.
    pub fn with_report(path: &Path) -> Option<Self> {
        let begun = File::open(path.join(REPORT)).ok()?.metadata().is_ok_and(|file| file.len() > 0);
        begun.then(|| Self::open(path).ok()).flatten()
    }

    /// A directory for the run's own files, removed when the value is dropped. Those of runs that were
    /// killed are removed first.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> io::Result<Scratch> {
        self.sweep();
        let prefix = format!("{SCRATCH_PREFIX}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).rand_bytes(SCRATCH_RANDOM).tempdir_in(&self.path)?;
        let lock = File::open(directory.path())?;
        // Some file systems cannot lock directories; the process id then has to do.
        let _ = lock.try_lock();
        Ok(Scratch { directory, _lock: lock })
    }

    /// Removes what killed runs left. What cannot be removed harms nobody, and stays.
    fn sweep(&self) {
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let owner = entry.file_name().to_str().and_then(scratch_owner);
            if is_directory && owner.is_some_and(|owner| is_abandoned(owner, &entry.path())) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Starts the kernel's log anew.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn start_log(&self) -> io::Result<File> {
        let mut log = File::create(self.log_path())?;
        log.write_all(LOG_START.as_bytes())?;
        Ok(log)
    }

    /// Replaces the report at once: whoever reads it sees the old one or the new one, never half.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_report(&self, text: &str) -> io::Result<()> {
        debug_assert!(text.starts_with(REPORT_START), "ebb would not know this report as its own");
        let mut file = tempfile::Builder::new().prefix(".report-").tempfile_in(&self.path)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        // Temporary files are private; a report is as public as the umask makes other files. Taken from
        // the directory, since there is no safe way to ask for the umask.
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&self.path)?.permissions()) & 0o666;
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode | 0o600))?;
        file.persist(self.report_path()).map_err(|error| error.error)?;
        Ok(())
    }

    /// Where the report is.
    pub fn report_path(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// Where the kernel's log is.
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG)
    }
}

fn unusable(path: &Path, error: &io::Error) -> Ending {
    let shown = path.display();
    Ending::bad_input(format!("--out {shown} cannot be written: {error}; name a directory that can be"))
}

/// The process that made a scratch directory, by the directory's name; none if no ebb gave it that name.
fn scratch_owner(name: &str) -> Option<u32> {
    let (owner, random) = name.strip_prefix(SCRATCH_PREFIX)?.split_once('-')?;
    let is_random = random.len() == SCRATCH_RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    owner.parse().ok().filter(|_| is_random)
}

/// Whether a scratch directory's run is over. Its process must be gone; but in a container with process
/// ids of its own every process outside looks gone, so its lock must be gone too.
fn is_abandoned(owner: u32, directory: &Path) -> bool {
    let proc = Path::new("/proc");
    let gone = proc.join("self").exists() && !proc.join(owner.to_string()).exists();
    gone && File::open(directory).is_ok_and(|directory| directory.try_lock().is_ok())
}

/// Whether a file may be replaced: it is not there, it is empty, or an earlier run began it like this.
fn is_ours(path: &Path, start: &str) -> bool {
    let mut begin = Vec::new();
    match File::open(path) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(file) => {
            file.take(start.len() as u64).read_to_end(&mut begin).is_ok()
                && (begin.is_empty() || begin == start.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> String {
        format!("{REPORT_START}0\",\n  \"x\": \"{text}\"\n}}\n")
    }

    #[test]
    fn our_own_report_is_replaced_and_nothing_else_is_left() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("new/out");
        for text in ["first", "second"] {
            let out = OutDir::open(&path).unwrap();
            drop(out.scratch().unwrap());
            out.write_report(&report(text)).unwrap();
            assert_eq!(std::fs::read_to_string(out.report_path()).unwrap(), report(text));
        }
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn one_run_at_a_time_writes_there() {
        let scratch = tempfile::tempdir().unwrap();
        let first = OutDir::open(scratch.path()).unwrap();
        assert!(OutDir::open(scratch.path()).unwrap_err().message.contains("another run is writing"));
        drop(first);
        OutDir::open(scratch.path()).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_dead_runs_left_is_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let out = OutDir::open(scratch.path()).unwrap();
        // No process has this id: Linux' largest is 2^22.
        let dead = scratch.path().join(".run-99999999-aB3xY9");
        let locked = scratch.path().join(".run-99999999-locked");
        let kept = [".run-notes", ".run-99999999-mine.d", ".run-99999999-", "run-99999999-aB3xY9"];
        let running = out.scratch().unwrap();
        for path in kept.map(|name| scratch.path().join(name)).iter().chain([&dead, &locked]) {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("qemu.log"), "words").unwrap();
        }
        let lock = File::open(&locked).unwrap();
        lock.try_lock().unwrap();
        drop(out.scratch().unwrap());
        assert!(!dead.exists() && locked.exists() && running.path().exists());
        assert!(kept.iter().all(|name| scratch.path().join(name).join("qemu.log").exists()));
        drop(lock);
        drop(out.scratch().unwrap());
        assert!(!locked.exists() && running.path().exists());
    }

    #[test]
    fn somebody_else_s_files_are_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        for name in [REPORT, LOG] {
            let file = scratch.path().join(name);
            std::fs::write(&file, "{\"mine\": 1}").unwrap();
            assert!(OutDir::open(scratch.path()).unwrap_err().message.contains("not written by ebb"));
            assert_eq!(std::fs::read(&file).unwrap(), b"{\"mine\": 1}");
            std::fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_file_is_no_output_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(OutDir::open(file.path()).unwrap_err().message.contains("is a file"));
        assert!(OutDir::open(&file.path().join("below")).unwrap_err().message.contains("is a file"));
    }
}
