//! Real programs, made of what Debian ships: their sources built statically, or a package that is static already.
//!
//! Owns: fetching with apt in a state of our own, so that the machine's sources and package lists stay as they are, and the
//! recipes. Everything lands in the target directory and stays there: once built, nothing asks the network again. Where
//! there is no apt, a program can be put there by hand; the message says where. Neighbour: `build`, for our own programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{BuildError, run, target};

/// A program that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Package {
    /// The interpreter of Lua, from its sources.
    Lua,
    /// The shell of SQLite, from its sources.
    Sqlite,
    /// As Debian's package `busybox-static` has it.
    Busybox,
}

/// The compiler and what all recipes give it.
const COMPILE: &str = "gcc -O2 -static -s -w";

impl Package {
    /// Of the executable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lua => "lua",
            Self::Sqlite => "sqlite3",
            Self::Busybox => "busybox",
        }
    }

    fn debian_name(self) -> &'static str {
        match self {
            Self::Lua => "lua5.4",
            Self::Sqlite => "sqlite3",
            Self::Busybox => "busybox-static",
        }
    }

    /// How apt gets it.
    fn verb(self) -> &'static [&'static str] {
        match self {
            Self::Lua | Self::Sqlite => &["source", "--download-only"],
            Self::Busybox => &["download"],
        }
    }

    /// A script for the shell that makes `out`, in a directory with what was fetched.
    fn recipe(self) -> String {
        match self {
            // All of Lua but the compiler to files, which is a program of its own.
            Self::Lua => format!(
                "tar -xf lua5.4_*.orig.tar.* --strip-components=1 && rm src/luac.c && \
                 {COMPILE} -DLUA_USE_POSIX -o out src/*.c -lm"
            ),
            // The one file of SQLite is made by scripts in Tcl. Write-ahead logs need threads no more than the rest does.
            Self::Sqlite => format!(
                "rm -f *.orig-www.* && tar -xf sqlite3_*.orig.tar.* --strip-components=1 && \
                 ./configure --disable-tcl --disable-readline && make sqlite3.c shell.c && \
                 {COMPILE} -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -o out shell.c sqlite3.c -lm"
            ),
            Self::Busybox => "dpkg-deb -x busybox-static_*.deb root && \
                 cp \"$(find root -type f -path '*/bin/busybox')\" out"
                .to_owned(),
        }
    }

    /// The path of the executable, fetched and built if need be.
    pub fn build(self) -> Result<PathBuf, BuildError> {
        let directory = target().join("debian-programs");
        fs::create_dir_all(&directory).map_err(|error| BuildError::Io(directory.display().to_string(), error))?;
        let path = directory.join(self.name());
        // One at a time, in all processes; whoever comes second finds it there.
        let lock = directory.join("lock");
        let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|error| BuildError::Io(directory.display().to_string(), error))?;
        if path.exists() {
            return Ok(path);
        }
        let work = tempfile::tempdir_in(&directory).map_err(|error| BuildError::Io("a directory".to_owned(), error))?;
        self.fetch(work.path()).map_err(|error| self.hint(error, &path))?;
        let recipe = self.recipe();
        run(Command::new("sh").args(["-c", &recipe]).current_dir(work.path()), &format!("building {}", self.name()))
            .map_err(|error| self.hint(error, &path))?;
        fs::rename(work.path().join("out"), &path)
            .map_err(|error| BuildError::Io(path.display().to_string(), error))?;
        Ok(path)
    }

    fn hint(self, error: BuildError, path: &Path) -> BuildError {
        let what = format!("{} (without apt or a network: put a static {} at {})", error, self.name(), path.display());
        BuildError::Compiler(format!("Debian's {}", self.debian_name()), what)
    }

    /// With package lists of our own, of the suite that the machine itself uses.
    fn fetch(self, work: &Path) -> Result<(), BuildError> {
        let state = work.join("apt");
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(state.join(part)).map_err(|error| BuildError::Io("a directory".to_owned(), error))?;
        }
        let origin = "apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' | \
                      grep ' main$' | grep -v security | head -n 1";
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let list = format!(
            "set -e; origin=$({origin}); [ -n \"$origin\" ]; if [ -f {key} ]; then by='[signed-by={key}] '; fi; \
             for kind in deb deb-src; do echo \"$kind ${{by-}}$origin\"; done >apt/parts/own.list"
        );
        run(Command::new("sh").args(["-c", &list]).current_dir(work), "asking apt for its mirror")?;
        run(apt(work).arg("update"), "apt-get update")?;
        run(apt(work).args(self.verb()).arg(self.debian_name()), "apt-get")
    }
}

fn apt(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let own = |option: &str, path: &str| format!("{option}={}", work.join(path).display());
    let options = [
        "Dir::Etc::sourcelist=/dev/null".to_owned(),
        own("Dir::Etc::sourceparts", "apt/parts"),
        own("Dir::State::lists", "apt/lists"),
        own("Dir::Cache", "apt/cache"),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Check-Valid-Until=false".to_owned(),
        "Acquire::Retries=2".to_owned(),
    ];
    options.iter().for_each(|option| {
        command.args(["-o", option]);
    });
    command.current_dir(work);
    command
}
