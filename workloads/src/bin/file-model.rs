//! Random operations on a directory tree, each held against a model in memory: contents, names, sizes and the errno of
//! what must fail. Claim: the file system and the model never differ.
//!
//! Now and then, and in the end, the file system is mounted anew, so that everything comes from the disk, and the whole tree is
//! compared; `remounts=0` leaves that out, for kernels that would want privileges for it.
//!
//! Works in `model/` of the working directory, which must not exist; leaves its tree there, and the model's list of it in
//! `model.list`, for whoever reads the disk afterwards. With `verify=1` it only compares the two, after a reboot say.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::ExitCode;

use workloads::claim::Claims;
use workloads::mapping::{self, FileView, Mapping};
use workloads::rng::Rng;
use workloads::tree;
use workloads::volume::{self, End, Range};

const ROOT: &str = "model";
const LIST: &str = "model.list";
/// Directories and names are drawn from so few that operations meet.
const NAMES: u64 = 9;
const DEPTH: u64 = 3;
/// Files kept open, named or not.
const HANDLES: usize = 6;

/// In so many operations there are two remounts, one of them after the first tenth.
const REMOUNTS: u64 = 5000;

// errno(3)
const EBUSY: i32 = 16;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const ENOTEMPTY: i32 = 39;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    /// Its contents are in `Model::contents`: names may share them.
    File(usize),
    Link(String),
}

struct Model {
    nodes: BTreeMap<String, Node>,
    contents: Vec<Vec<u8>>,
    open: Vec<(File, usize)>,
    rng: Rng,
    most: u64,
    claims: Claims,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn on_disk(path: &str) -> String {
    if path.is_empty() { ROOT.to_owned() } else { format!("{ROOT}/{path}") }
}

impl Model {
    fn path(&mut self) -> String {
        let depth = 1 + self.rng.below(DEPTH);
        let names: Vec<String> = (0..depth).map(|_| format!("n{}", self.rng.below(NAMES))).collect();
        names.join("/")
    }

    /// Whether a new entry can be made at a path, by its parent.
    fn check_parent(&self, path: &str) -> Result<(), i32> {
        let parent = parent(path);
        if parent.is_empty() {
            return Ok(());
        }
        self.check_parent(parent)?;
        match self.nodes.get(parent) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(ENOTDIR),
            // Links lead nowhere.
            Some(Node::Link(_)) | None => Err(ENOENT),
        }
    }

    fn look(&self, path: &str) -> Result<Node, i32> {
        self.check_parent(path)?;
        self.nodes.get(path).cloned().ok_or(ENOENT)
    }

    fn is_empty_directory(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        !self.nodes.keys().any(|other| other.starts_with(&inside))
    }

    /// Compares how an operation ended.
    fn judge<T>(&mut self, what: &str, found: io::Result<T>, expected: Result<(), i32>) -> Option<T> {
        let outcome = found.as_ref().map(|_| ()).map_err(|error| error.raw_os_error().unwrap_or(-1));
        self.claims.equal(what, outcome, expected);
        found.ok()
    }

    fn create(&mut self) {
        let path = self.path();
        let expected = match self.look(&path) {
            Ok(_) => Err(EEXIST),
            Err(ENOENT) => self.check_parent(&path),
            Err(errno) => Err(errno),
        };
        let opened = OpenOptions::new().read(true).write(true).create_new(true).open(on_disk(&path));
        if let Some(file) = self.judge(&format!("create {path}"), opened, expected) {
            self.contents.push(Vec::new());
            let content = self.contents.len() - 1;
            self.nodes.insert(path, Node::File(content));
            self.hold(file, content);
        }
    }

    fn hold(&mut self, file: File, content: usize) {
        if self.open.len() >= HANDLES {
            let victim = self.rng.below(HANDLES as u64) as usize;
            self.open.swap_remove(victim);
        }
        self.open.push((file, content));
    }

    /// Opens a file that exists, or takes one that is open already.
    fn some_file(&mut self) -> Option<(usize, usize)> {
        if self.open.is_empty() || self.rng.percent(30) {
            let files: Vec<(String, usize)> = self
                .nodes
                .iter()
                .filter_map(
                    |(path, node)| if let Node::File(content) = node { Some((path.clone(), *content)) } else { None },
                )
                .collect();
            if files.is_empty() {
                return None;
            }
            let (path, content) = files[self.rng.below(files.len() as u64) as usize].clone();
            let opened = OpenOptions::new().read(true).write(true).open(on_disk(&path));
            let file = self.judge(&format!("open {path}"), opened, Ok(()))?;
            self.hold(file, content);
            return Some((self.open.len() - 1, content));
        }
        let index = self.rng.below(self.open.len() as u64) as usize;
        Some((index, self.open[index].1))
    }

    fn write(&mut self) {
        let Some((index, content)) = self.some_file() else { return };
        let most = if self.rng.percent(20) { 40_000 } else { 3000 };
        let len = 1 + self.rng.below(most);
        let size = self.contents[content].len() as u64;
        let offset = match self.rng.below(10) {
            0..5 => self.rng.below(size + 1),
            5..8 => size,
            _ => self.rng.below(self.most),
        };
        let len = len.min(self.most.saturating_sub(offset)) as usize;
        let seed = self.rng.word();
        let bytes: Vec<u8> = (0..len).map(|at| (seed >> (at % 8 * 8)) as u8 ^ at as u8).collect();
        let written = self.open[index].0.write_all_at(&bytes, offset);
        if self.judge(&format!("write {len} at {offset}"), written, Ok(())).is_some() && len > 0 {
            let end = offset as usize + len;
            let model = &mut self.contents[content];
            if model.len() < end {
                model.resize(end, 0);
            }
            model[offset as usize..end].copy_from_slice(&bytes);
        }
    }

    fn truncate(&mut self) {
        let Some((index, content)) = self.some_file() else { return };
        let size = if self.rng.percent(30) { 0 } else { self.rng.below(self.most) };
        let cut = self.open[index].0.set_len(size);
        if self.judge(&format!("truncate to {size}"), cut, Ok(())).is_some() {
            self.contents[content].resize(size as usize, 0);
        }
    }

    /// Punches a hole, has blocks reserved, or both: zeroes in place of what is there.
    fn allocate(&mut self) {
        let Some((index, content)) = self.some_file() else { return };
        let size = self.contents[content].len() as u64;
        let offset = if self.rng.percent(80) { self.rng.below(size + 1) } else { self.rng.below(self.most) };
        let most = if self.rng.percent(50) { 3 * mapping::PAGE_SIZE as u64 } else { self.most };
        let len = (1 + self.rng.below(most)).min(self.most.saturating_sub(offset)).max(1);
        let (range, end) = match self.rng.below(10) {
            0..6 => (Range::Punch, End::Stays),
            6 => (Range::Zero, End::Moves),
            7 => (Range::Zero, End::Stays),
            8 => (Range::Reserve, End::Moves),
            _ => (Range::Reserve, End::Stays),
        };
        let done = volume::allocate(&self.open[index].0, range, end, offset, len);
        if self.judge(&format!("{range:?} {len} at {offset} of {size}, {end:?}"), done, Ok(())).is_some() {
            let (offset, behind, model) = (offset as usize, (offset + len) as usize, &mut self.contents[content]);
            if end == End::Moves && model.len() < behind {
                model.resize(behind, 0);
            }
            let last = behind.min(model.len());
            if range != Range::Reserve && offset < last {
                model[offset..last].fill(0);
            }
        }
    }

    fn read(&mut self) {
        let Some((index, content)) = self.some_file() else { return };
        let size = self.open[index].0.metadata().map(|metadata| metadata.size());
        let expected = self.contents[content].len() as u64;
        self.claims.equal("size by fstat", size.unwrap_or(u64::MAX), expected);
        let offset = self.rng.below(expected + 100);
        let mut bytes = vec![0; 1 + self.rng.below(20_000) as usize];
        let mut have = 0;
        while have < bytes.len() {
            match self.open[index].0.read_at(&mut bytes[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) => return self.claims.holds(format_args!("read at {offset}: {error}"), false),
            }
        }
        let model = self.contents[content].get(offset as usize..).unwrap_or_default();
        let model = &model[..model.len().min(bytes.len())];
        let differs = model.iter().zip(&bytes).position(|(a, b)| a != b);
        let values = differs.map(|at| (at, model[at], bytes[at]));
        self.claims.holds(
            format_args!(
                "read {have} of {} at {offset}, first difference (at, expected, found): {values:?}",
                model.len()
            ),
            have == model.len() && differs.is_none(),
        );
    }

    /// Reads and writes through a shared mapping: the same bytes as through read and write, at once.
    fn map(&mut self) {
        let Some((index, content)) = self.some_file() else { return };
        let words = self.contents[content].len() / 8;
        if words == 0 {
            return;
        }
        let pages = words.div_ceil(mapping::WORDS) as u64;
        let view = if self.rng.percent(60) { FileView::WriteShared } else { FileView::ReadPrivate };
        let mapped = Mapping::file(&self.open[index].0, pages, view);
        let Some(mapped) = self.judge(&format!("mmap of {pages} pages"), mapped, Ok(())) else { return };
        for _ in 0..1 + self.rng.below(20) {
            let word = self.rng.below(words as u64) as usize;
            let (page, inside) = (word / mapping::WORDS, word % mapping::WORDS);
            let model = &mut self.contents[content][word * 8..][..8];
            let expected = u64::from_le_bytes(model.try_into().expect("eight bytes"));
            self.claims.equal(format_args!("word {word} of {words}, mapped"), mapped.page(page).read(inside), expected);
            if view == FileView::WriteShared && self.rng.percent(50) {
                let value = self.rng.word();
                mapped.page_to_write(page).write(inside, value);
                model.copy_from_slice(&value.to_le_bytes());
            }
        }
        if self.rng.percent(10) {
            let synced = mapped.sync();
            self.judge("msync", synced, Ok(()));
        }
    }

    fn make_directory(&mut self) {
        let path = self.path();
        let expected = match self.look(&path) {
            Ok(_) => Err(EEXIST),
            Err(ENOENT) => self.check_parent(&path),
            Err(errno) => Err(errno),
        };
        if self.judge(&format!("mkdir {path}"), fs::create_dir(on_disk(&path)), expected).is_some() {
            self.nodes.insert(path, Node::Directory);
        }
    }

    fn remove(&mut self) {
        let path = self.path();
        let (found, expected) = if self.rng.percent(40) {
            let expected = match self.look(&path) {
                Ok(Node::Directory) if self.is_empty_directory(&path) => Ok(()),
                Ok(Node::Directory) => Err(ENOTEMPTY),
                Ok(_) => Err(ENOTDIR),
                Err(errno) => Err(errno),
            };
            (fs::remove_dir(on_disk(&path)), expected)
        } else {
            let expected = match self.look(&path) {
                Ok(Node::Directory) => Err(EISDIR),
                Ok(_) => Ok(()),
                Err(errno) => Err(errno),
            };
            (fs::remove_file(on_disk(&path)), expected)
        };
        if self.judge(&format!("remove {path}"), found, expected).is_some() {
            self.nodes.remove(&path);
        }
    }

    fn rename(&mut self) {
        let (from, to) = (self.path(), self.path());
        let expected = self.rename_expected(&from, &to);
        if self.judge(&format!("rename {from} to {to}"), fs::rename(on_disk(&from), on_disk(&to)), expected).is_none() {
            return;
        }
        // Two names of one file: nothing happens (rename(2)).
        if from == to || (matches!(self.nodes[&from], Node::File(_)) && self.nodes.get(&to) == self.nodes.get(&from)) {
            return;
        }
        let inside = format!("{from}/");
        let moved: Vec<String> =
            self.nodes.keys().filter(|path| **path == from || path.starts_with(&inside)).cloned().collect();
        self.nodes.remove(&to);
        for path in moved {
            let node = self.nodes.remove(&path).expect("listed a moment ago");
            self.nodes.insert(format!("{to}{}", &path[from.len()..]), node);
        }
    }

    fn rename_expected(&self, from: &str, to: &str) -> Result<(), i32> {
        self.check_parent(from)?;
        self.check_parent(to)?;
        let moved = self.nodes.get(from).ok_or(ENOENT)?;
        if *moved == Node::Directory && to.starts_with(&format!("{from}/")) {
            return Err(EINVAL);
        }
        if from.starts_with(&format!("{to}/")) {
            // The target is on the way to the source, so it is a directory, and not empty.
            return Err(ENOTEMPTY);
        }
        match (moved, self.nodes.get(to)) {
            _ if from == to => Ok(()),
            (Node::Directory, Some(Node::Directory)) if !self.is_empty_directory(to) => Err(ENOTEMPTY),
            (Node::Directory, Some(Node::Directory)) | (_, None) => Ok(()),
            (Node::Directory, Some(_)) => Err(ENOTDIR),
            (_, Some(Node::Directory)) => Err(EISDIR),
            _ => Ok(()),
        }
    }

    fn link(&mut self) {
        let (from, to) = (self.path(), self.path());
        if self.rng.percent(50) {
            let expected = match self.look(&to) {
                Ok(_) => Err(EEXIST),
                Err(ENOENT) => self.check_parent(&to),
                Err(errno) => Err(errno),
            };
            let target = format!("target-of-{from}");
            if self.judge(&format!("symlink {to}"), symlink(&target, on_disk(&to)), expected).is_some() {
                self.nodes.insert(to, Node::Link(target));
            }
            return;
        }
        let (Ok(node @ Node::File(_)), Err(ENOENT), Ok(())) =
            (self.look(&from), self.look(&to), self.check_parent(&to))
        else {
            return;
        };
        let linked = fs::hard_link(on_disk(&from), on_disk(&to));
        if self.judge(&format!("link {from} to {to}"), linked, Ok(())).is_some() {
            self.nodes.insert(to, node);
        }
    }

    fn sync(&mut self) {
        if let Some((index, _)) = self.some_file() {
            let synced = self.open[index].0.sync_all();
            self.judge("fsync", synced, Ok(()));
        }
    }

    /// Mounts the file system anew, which is refused while there are open files without names, and compares everything.
    fn remount(&mut self) {
        let nodes = &self.nodes;
        let has_name = |content: usize| nodes.values().any(|node| *node == Node::File(content));
        let named: Vec<bool> = self.open.iter().map(|(_, content)| has_name(*content)).collect();
        if named.contains(&false) {
            let mounted = volume::remount(c"/");
            self.judge("remount with nameless files", mounted, Err(EBUSY));
            let mut named = named.into_iter();
            self.open.retain(|_| named.next() == Some(true));
        }
        let mounted = volume::remount(c"/");
        self.judge("remount", mounted, Ok(()));
        let expected = self.lines();
        compare(&mut self.claims, &expected);
    }

    fn list(&mut self) {
        let path = self.path();
        let Ok(Node::Directory) = self.look(&path) else { return };
        let mut found: Vec<String> = match fs::read_dir(on_disk(&path)) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
            Err(error) => return self.claims.holds(format_args!("list {path}: {error}"), false),
        };
        found.sort();
        let names = self.nodes.keys().filter(|other| parent(other) == path);
        let expected: Vec<String> = names.map(|other| other[path.len() + 1..].to_owned()).collect();
        self.claims.equal(format_args!("list {path}"), found, expected);
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..12 => self.create(),
            12..38 => self.write(),
            38..45 => self.truncate(),
            45..52 => self.allocate(),
            52..70 => self.read(),
            70..78 => self.map(),
            78..82 => self.make_directory(),
            82..85 => self.remove(),
            85..91 => self.rename(),
            91..94 => self.link(),
            94..96 => self.sync(),
            _ => self.list(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |(path, node): (&String, &Node)| match node {
            Node::Directory => tree::directory_line(path),
            Node::File(content) => tree::file_line(path, &self.contents[*content]),
            Node::Link(target) => tree::link_line(path, target),
        };
        let mut lines: Vec<String> = self.nodes.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn compare(claims: &mut Claims, expected: &[String]) {
    match tree::lines(Path::new(ROOT)) {
        Ok(found) => {
            for line in expected.iter().filter(|line| !found.contains(line)) {
                claims.holds(format_args!("missing: {line}"), false);
            }
            for line in found.iter().filter(|line| !expected.contains(line)) {
                claims.holds(format_args!("too much: {line}"), false);
            }
            claims.equal("entries", found.len(), expected.len());
        }
        Err(error) => claims.holds(format_args!("the tree is read: {error}"), false),
    }
}

fn main() -> ExitCode {
    let (mut ops, mut seed, mut kib, mut verify, mut remounts) = (2000, 1, 96, 0, 1);
    workloads::arguments::parse(
        "does ops random operations on files of up to kib KiB below model/ and compares; verify=1: only compares",
        &mut [
            ("ops", &mut ops),
            ("seed", &mut seed),
            ("kib", &mut kib),
            ("verify", &mut verify),
            ("remounts", &mut remounts),
        ],
    );
    let mut claims = Claims::new("file-model");
    if verify != 0 {
        let list = fs::read_to_string(LIST).expect("the list of the run before");
        let expected: Vec<String> = list.lines().map(str::to_owned).collect();
        compare(&mut claims, &expected);
        return claims.finish(format_args!("entries={}", expected.len()));
    }
    fs::create_dir(ROOT).expect("a fresh directory");
    let (nodes, contents, open) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut model = Model { nodes, contents, open, rng: Rng::new(seed), most: kib << 10, claims };
    let mut remounted = 0;
    for operation in 0..ops {
        model.step();
        let is_due = operation % REMOUNTS == REMOUNTS / 10 || model.rng.below(REMOUNTS) == 0 || operation + 1 == ops;
        if remounts != 0 && is_due {
            model.remount();
            remounted += 1;
        }
    }
    let expected = model.lines();
    let mut claims = model.claims;
    drop(model.open);
    compare(&mut claims, &expected);
    let mut list = File::create(LIST).expect("the list");
    list.write_all((expected.join("\n") + "\n").as_bytes()).expect("the list is written");
    claims.finish(format_args!("ops={ops} seed={seed} remounts={remounted} entries={}", expected.len()))
}
