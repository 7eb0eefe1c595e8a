//! execve(2): another program takes the process over.
//!
//! Owns finding the program, taking arguments in, and the order of the change. Loading is `elf.rs`'s.
//!
//! ```text
//!   arguments in ─► program found ─► new memory filled ─► other threads gone ─► changed ─► old memory down
//!   └──────────────── may fail: nothing has happened ───┘                      └─ no way back, no wait ─┘
//! ```
//! The new memory is filled beside the old one, so whatever fails leaves the caller as it was. It stands in
//! `ThreadState::doomed` meanwhile: a thread that is killed here takes it down at its end.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::elf::{self, Program, Source, StartError};
use super::groups;
use super::memory;
use super::process::Inherited;
use super::signal::AltStack;
use super::space::{AddressSpace, Resigned};
use super::stack::MAX_BYTES;
use super::thread::Thread;
use crate::fs::exclusion::Executing;
use crate::fs::vnode::Vnode;
use crate::fs::walk::{LastLink, walk};
use crate::fs::{self, locks};
use crate::sync::Once;
use crate::syscall::errno::Errno;

/// Longest path.
const PATH_MAX: usize = 4096;
/// Bytes of the arguments that are kept to be shown: they stay in the kernel's heap as long as the process lives.
const SHOWN_ARGUMENTS: usize = 256;
/// Scripts that may be interpreted by scripts.
const MAX_SCRIPTS: usize = 5;
/// Longest first line of a script.
const SCRIPT_LINE: usize = 254;

/// The program that the boot module is, if it stays in RAM.
static BOOT_PROGRAM: Once<&'static [u8]> = Once::new();

/// The boot module's program may be executed again from now on (`module=keep`).
pub fn keep_boot_program(file: &'static [u8]) {
    BOOT_PROGRAM.call_once(|| file);
}

/// A program's path from the root, as `/proc/self/exe` shows it, of the name it is called by.
pub fn from_root(name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(name.len() + 1);
    if !name.starts_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// What execve is asked for, copied in.
struct Request {
    path: Vec<u8>,
    argv: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
}

impl Request {
    async fn read(thread: &Thread, [path, argv, env]: [u64; 3]) -> Result<Self, Errno> {
        let mut room = MAX_BYTES;
        let path = read_string(thread, path, PATH_MAX).await?;
        let mut argv = read_strings(thread, argv, &mut room).await?;
        let env = read_strings(thread, env, &mut room).await?;
        if argv.is_empty() {
            // A program may rely on its name being there (Linux since 5.18).
            argv.push(Vec::new());
        }
        Ok(Self { path, argv, env })
    }
}

async fn read_strings(thread: &Thread, at: u64, room: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if at == 0 {
        return Ok(strings);
    }
    for index in 0.. {
        let word = at.checked_add(8 * index).ok_or(Errno::EFAULT)?;
        let string: u64 = thread.process.read_object(word).await?;
        if string == 0 {
            break;
        }
        let string = read_string(thread, string, *room).await?;
        let taken = string.len() + 1 + size_of::<u64>();
        *room = room.checked_sub(taken).ok_or(Errno::E2BIG)?;
        strings.push(string);
    }
    Ok(strings)
}

async fn read_string(thread: &Thread, at: u64, most: usize) -> Result<Vec<u8>, Errno> {
    const PIECE: usize = 128;
    let mut string = Vec::new();
    loop {
        let mut piece = [0; PIECE];
        let from = at.checked_add(string.len() as u64).ok_or(Errno::EFAULT)?;
        let len = thread.process.read_string(from, &mut piece).await?;
        if string.len() + len > most {
            return Err(Errno::E2BIG);
        }
        if !memory::has_room(string.len() + len) {
            return Err(Errno::ENOMEM);
        }
        string.extend_from_slice(&piece[..len]);
        if len < PIECE {
            return Ok(string);
        }
    }
}

/// A program that was found.
struct Found {
    source: Source<'static>,
    /// From the root.
    path: Vec<u8>,
}

/// The program at a path. The boot module's is found by the name it was called by, and by whoever runs it as itself.
async fn find(thread: &Thread, path: &[u8]) -> Result<Found, Errno> {
    let process = &thread.process;
    let (own_path, own_file) = {
        let inherited = process.inherited.lock();
        (Arc::clone(&inherited.executable), inherited.file.clone())
    };
    if path == b"/proc/self/exe" {
        let source = own_file.map_or_else(boot_program, |file| Ok(Source::File(file)))?;
        return Ok(Found { source, path: own_path.to_vec() });
    }
    let start = process.files.lock().context.cwd.clone();
    let node = match walk(process, start, path, LastLink::Follow).await?.existing() {
        Err(Errno::ENOENT) if own_file.is_none() && *from_root(path) == *own_path => {
            return Ok(Found { source: boot_program()?, path: own_path.to_vec() });
        }
        node => node?,
    };
    let Vnode::Disk(file) = node else { return Err(Errno::EACCES) };
    fs::check_executable(&file).await?;
    Ok(Found { source: Source::File(Executing::begin(file)?), path: from_root(path) })
}

fn boot_program() -> Result<Source<'static>, Errno> {
    let Some(file) = BOOT_PROGRAM.get() else {
        log::warn!("execve of the boot module's program needs the kernel option module=keep");
        return Err(Errno::ENOENT);
    };
    Ok(Source::Bytes(file))
}

/// Looks behind `#!` lines until there is a program, and changes the arguments as they ask (execve(2), interpreter scripts).
async fn resolve(thread: &Thread, request: &mut Request) -> Result<Found, Errno> {
    let mut path = request.path.clone();
    for _ in 0..MAX_SCRIPTS {
        let found = find(thread, &path).await?;
        let line = {
            let (_, head) = found.source.head(thread.process.space()).await?;
            match head.strip_prefix(b"#!") {
                None => return Ok(found),
                Some(line) => script_line(line),
            }
        };
        let (interpreter, argument) = line.ok_or(Errno::ENOEXEC)?;
        let mut argv = Vec::from_iter([Some(interpreter.clone()), argument, Some(path)].into_iter().flatten());
        argv.extend(request.argv.drain(..).skip(1));
        request.argv = argv;
        path = interpreter;
    }
    Err(Errno::ELOOP)
}

/// The interpreter and its one argument, if there is one: all that follows, blanks and all.
fn script_line(line: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let end = line.iter().position(|byte| *byte == b'\n').filter(|end| *end < SCRIPT_LINE)?;
    let line = line[..end].trim_ascii();
    let (name, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
    let argument = rest.trim_ascii();
    (!name.is_empty()).then(|| (name.to_vec(), (!argument.is_empty()).then(|| argument.to_vec())))
}

/// execve(2). When it succeeds, the thread's registers are those of the new program.
pub async fn execve(thread: &mut Thread, request: [u64; 3]) -> Result<(), Errno> {
    memory::wait_for_room().await?;
    let mut request = Request::read(thread, request).await?;
    let name = name_of(&request.path);
    let Found { source, path } = resolve(thread, &mut request).await?;
    let argv: Vec<&[u8]> = request.argv.iter().map(Vec::as_slice).collect();
    let env: Vec<&[u8]> = request.env.iter().map(Vec::as_slice).collect();
    let program = Program { file: source, path: &path, argv: &argv, env: &env };

    let space = AddressSpace::create()?;
    groups::follow(&space, &thread.process);
    *thread.state.doomed.lock() = Some(Arc::clone(&space));
    let limits = thread.process.inherited.lock().limits.clone();
    let machine = match elf::fill(&space, &program, &limits).await {
        Ok(machine) => machine,
        Err(error) => {
            thread.take_doomed_down().await;
            return Err(match error {
                StartError::Image(_) => Errno::ENOEXEC,
                StartError::Arguments(_) => Errno::E2BIG,
                StartError::Memory(errno) => errno,
            });
        }
    };
    thread.process.become_single(&thread.state).await;

    let closed = thread.process.files.lock().take_closed_by_exec();
    closed.iter().for_each(|file| locks::closed_by(thread.process.pid, file));
    drop(closed);
    space.futexes.register_known();
    let file = match program.file {
        Source::File(file) => Some(file),
        Source::Bytes(_) => None,
    };
    let arguments = shown_arguments(program.argv);
    let before = thread.process.inherited.lock().clone();
    let inherited = Inherited { executable: path.into(), name, arguments, file, ..before };
    // It may have been moved while the program was loaded.
    groups::follow(&space, &thread.process);
    let before = thread.process.change_program(Arc::clone(&space), inherited);
    before.futexes.unregister();
    thread.machine = machine;
    thread.space = space;
    thread.alt_stack = AltStack::default();
    thread.clear_child_tid = 0;
    thread.name = name;
    *thread.state.doomed.lock() = (before.resign() == Resigned::Last).then_some(before);
    thread.take_doomed_down().await;
    Ok(())
}

/// A thread's name after execve: the last part of the program's, cut off (prctl(2), PR_SET_NAME).
pub fn name_of(program: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let last = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let len = last.len().min(15);
    name[..len].copy_from_slice(&last[..len]);
    name
}

/// As many of the arguments as `/proc/PID/cmdline` shows.
pub fn shown_arguments(argv: &[&[u8]]) -> Arc<[u8]> {
    let bytes = argv.iter().flat_map(|word| word.iter().copied().chain([0]));
    bytes.take(SHOWN_ARGUMENTS).collect()
}

impl Thread {
    /// Takes down the memory that nobody uses any more, if there is such.
    pub async fn take_doomed_down(&self) {
        let doomed = self.state.doomed.lock().clone();
        if let Some(space) = doomed {
            space.destroy().await;
            *self.state.doomed.lock() = None;
        }
    }
}
