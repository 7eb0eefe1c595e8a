//! Where a process stands in the tree: its working directory, and the mask for what it creates.

use super::vnode::Vnode;

/// fork copies it, execve keeps it.
#[derive(Clone)]
pub struct FsContext {
    /// Where relative paths begin.
    pub cwd: Vnode,
    /// Permissions taken off new files (umask(2)).
    pub umask: u16,
}

impl Default for FsContext {
    fn default() -> Self {
        Self { cwd: Vnode::root(), umask: 0o022 }
    }
}
