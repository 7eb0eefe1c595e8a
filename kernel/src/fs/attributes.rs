//! What is known about a file besides its contents: the fields of stat(2), in our types.
//!
//! Pure: host tests of the file system include this file as it is.

use linux_raw_sys::general as flag;

/// `st_dev` of files on the data disk.
pub const DATA_DEVICE: u64 = 0xfe00;

/// What kind of file an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    Character,
    Block,
    Fifo,
    Socket,
}

impl FileType {
    /// Its bits in `st_mode`.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => flag::S_IFREG,
            Self::Directory => flag::S_IFDIR,
            Self::Symlink => flag::S_IFLNK,
            Self::Character => flag::S_IFCHR,
            Self::Block => flag::S_IFBLK,
            Self::Fifo => flag::S_IFIFO,
            Self::Socket => flag::S_IFSOCK,
        }
    }

    /// `d_type`: the same bits, shifted (dirent.h, IFTODT).
    pub fn directory_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A time of day, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The nanoseconds.
    pub ns: i64,
}

impl Moment {
    /// Whole seconds.
    pub fn seconds(self) -> i64 {
        self.ns.div_euclid(1_000_000_000)
    }

    /// Nanoseconds beyond them.
    pub fn subsecond(self) -> u32 {
        self.ns.rem_euclid(1_000_000_000) as u32
    }
}

/// What stat(2) shows.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields of struct stat")]
pub struct Attributes {
    pub kind: FileType,
    pub permissions: u16,
    pub inode: u64,
    pub device: u64,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub rdev: u64,
    pub accessed: Moment,
    pub modified: Moment,
    pub changed: Moment,
}

impl Attributes {
    /// Of something that is made up: the superuser's, as old as time.
    pub fn made_up(kind: FileType, permissions: u16, device: u64, inode: u64) -> Self {
        let epoch = Moment::default();
        Self {
            kind,
            permissions,
            inode,
            device,
            links: if kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            rdev: 0,
            accessed: epoch,
            modified: epoch,
            changed: epoch,
        }
    }

    /// `st_mode`.
    pub fn mode(&self) -> u32 {
        self.kind.mode_bits() | u32::from(self.permissions)
    }
}
