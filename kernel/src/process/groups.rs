//! Memory groups as processes have them: their names, who is in which, and their limits.
//!
//! Owns the names. Does not own charging and reclaim (`mm::group`) nor how a group looks from outside
//! (`fs/cgroup.rs`). A process is in the group of its address space: fork and execve keep it, and what shares memory
//! by vfork shares the group.

use alloc::vec::Vec;

use mm::group::{GroupId, GroupLimits, GroupStats, MAX_GROUPS};

use super::process::{Process, Tid};
use super::space::AddressSpace;
use super::{memory, table};
use crate::mm;
use crate::sync::Mutex;
use crate::syscall::errno::Errno;

/// Longest name (`NAME_MAX`).
const MAX_NAME: usize = 255;

struct Named {
    name: Vec<u8>,
    id: GroupId,
    /// Being dissolved: nobody can join any more.
    leaving: bool,
}

static GROUPS: Mutex<Vec<Named>> = Mutex::new(Vec::new());

/// Makes a group without limits (mkdir(2) under `/sys/fs/cgroup`).
pub async fn make(name: &[u8]) -> Result<(), Errno> {
    if name.len() > MAX_NAME {
        return Err(Errno::ENAMETOOLONG);
    }
    memory::wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
    if GROUPS.lock().len() == MAX_GROUPS {
        // cgroup.max.descendants (Linux' cgroup-v2.rst).
        return Err(Errno::EAGAIN);
    }
    let id = mm().create_group().map_err(|_| Errno::ENOMEM)?;
    GROUPS.lock().push(Named { name: name.to_vec(), id, leaving: false });
    Ok(())
}

/// Dissolves a group that nobody is in (rmdir(2)). If the caller is killed half-way, the next one goes on.
pub async fn remove(id: GroupId) -> Result<(), Errno> {
    {
        let mut groups = GROUPS.lock();
        let group = groups.iter_mut().find(|group| group.id == id).ok_or(Errno::ENOENT)?;
        group.leaving = true;
    }
    if !members(id).is_empty() {
        GROUPS.lock().iter_mut().filter(|group| group.id == id).for_each(|group| group.leaving = false);
        return Err(Errno::EBUSY);
    }
    mm().remove_group(id).await;
    GROUPS.lock().retain(|group| group.id != id);
    Ok(())
}

/// The group of that name.
pub fn find(name: &[u8]) -> Option<GroupId> {
    GROUPS.lock().iter().find(|group| group.name == name).map(|group| group.id)
}

/// A group's path in the tree of groups.
pub fn path_of(id: GroupId) -> Vec<u8> {
    let groups = GROUPS.lock();
    let name = groups.iter().find(|group| group.id == id).map_or(&[][..], |group| &group.name);
    [b"/", name].concat()
}

/// The names of all groups but the root, with the groups.
pub fn all() -> Vec<(Vec<u8>, GroupId)> {
    GROUPS.lock().iter().map(|group| (group.name.clone(), group.id)).collect()
}

/// Whether there is such a group.
pub fn exists(id: GroupId) -> bool {
    id.is_root() || GROUPS.lock().iter().any(|group| group.id == id)
}

/// Processes in a group.
pub fn members(id: GroupId) -> Vec<Tid> {
    let all = table::all();
    all.iter().filter(|process| mm().space_group(process.space()) == id).map(|process| process.pid).collect()
}

/// Moves a process into a group. What it has so far stays charged where it is (cgroup-v2.rst, "Memory Ownership").
pub fn join(id: GroupId, pid: Tid) -> Result<(), Errno> {
    let process = table::find(pid).ok_or(Errno::ESRCH)?;
    let open = |group: &Named| group.id == id && !group.leaving;
    if !id.is_root() && !GROUPS.lock().iter().any(open) {
        return Err(Errno::ENODEV);
    }
    mm().set_space_group(process.space(), id);
    Ok(())
}

/// Puts a fresh space into the group of the process that is going to enter it.
pub fn follow(space: &AddressSpace, process: &Process) {
    mm().set_space_group(space.id, mm().space_group(process.space()));
}

/// Changes what a group may have.
pub fn limit(id: GroupId, change: impl FnOnce(&mut GroupLimits)) -> Result<(), Errno> {
    let mut limits = stats(id)?.limits;
    change(&mut limits);
    mm().set_group_limits(id, limits);
    Ok(())
}

/// What a group has.
pub fn stats(id: GroupId) -> Result<GroupStats, Errno> {
    mm().group_stats(id).ok_or(Errno::ENODEV)
}
