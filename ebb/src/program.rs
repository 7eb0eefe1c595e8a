//! Which file a program's name means.
//!
//! Owns: the rule that a bare name is one of our workloads and anything with a slash is the user's
//! file, and how workloads are found. Does not own building them (`cargo`) or checking them
//! (`program_check`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::cargo::{BuiltPrograms, SourceTree};
use crate::ending::Ending;

/// What a name on the command line stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// One of our workloads, to be found among what was built.
    Workload(&'a OsStr),
    /// The user's own file.
    File(&'a Path),
}

impl<'a> Named<'a> {
    /// Tells a bare name from a path, as shells do.
    pub fn new(name: &'a OsStr) -> Self {
        if name.as_bytes().contains(&b'/') { Self::File(Path::new(name)) } else { Self::Workload(name) }
    }

    /// The file that is meant; a workload is built first, if there is a source tree.
    ///
    /// # Errors
    /// When there is no such workload, or it cannot be built.
    pub fn locate(&self, tree: Option<&SourceTree>) -> Result<PathBuf, Ending> {
        let name = match self {
            Self::File(path) => return Ok(path.to_path_buf()),
            Self::Workload(name) => name,
        };
        if let Some(directory) = std::env::var_os("EBB_WORKLOADS") {
            return in_directory(Path::new(&directory), name);
        }
        let Some(tree) = tree else {
            return Err(Ending::bad_input(format!(
                "{} would be one of Ebb's workloads, but Ebb's source tree is not here to build it: set EBB_ROOT to it, or give the path of a program",
                name.display()
            )));
        };
        if name.is_empty() {
            return Err(Ending::bad_input(
                "the program's name is empty: give the path of a program, or a workload's name",
            ));
        }
        let built = tree.build_workloads()?;
        built.find(name).ok_or_else(|| unknown(name, &built))
    }
}

fn in_directory(directory: &Path, name: &OsStr) -> Result<PathBuf, Ending> {
    let path = directory.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let (name, directory) = (name.display(), directory.display());
    Err(Ending::bad_input(format!(
        "no workload called {name} is in {directory} (EBB_WORKLOADS); for a program of your own give its path, such as ./{name}"
    )))
}

fn unknown(name: &OsStr, built: &BuiltPrograms) -> Ending {
    let (name, known) = (name.display(), built.names().join(", "));
    Ending::bad_input(format!(
        "no workload is called {name} (there are: {known}); for a program of your own give its path, such as ./{name}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_it_a_path() {
        assert_eq!(Named::new(OsStr::new("pressure")), Named::Workload(OsStr::new("pressure")));
        assert_eq!(Named::new(OsStr::new("./pressure")), Named::File(Path::new("./pressure")));
        assert_eq!(Named::new(OsStr::new("/bin/x")), Named::File(Path::new("/bin/x")));
    }

    #[test]
    fn a_missing_workload_suggests_a_path() {
        let scratch = tempfile::tempdir().unwrap();
        let ending = in_directory(scratch.path(), OsStr::new("mine")).unwrap_err();
        assert!(ending.message.contains("./mine"), "{}", ending.message);
    }
}
