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
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Processes can join.
    Open,
    /// Somebody is dissolving it.
    Closing,
    /// Whoever was dissolving it was killed half-way: the next one goes on.
    Closed,
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
    GROUPS.lock().push(Named { name: name.to_vec(), id, standing: Standing::Open });
    Ok(())
}

/// Dissolves a group that nobody is in (rmdir(2)).
pub async fn remove(id: GroupId) -> Result<(), Errno> {
    /// What is left of a group whose removal does not come to its end.
    struct Closing(GroupId);
    impl Drop for Closing {
        fn drop(&mut self) {
            set_standing(self.0, Standing::Closed);
        }
    }
    match standing(id).ok_or(Errno::ENOENT)? {
        Standing::Closing => return Err(Errno::EBUSY),
        Standing::Open if !members(id).is_empty() => return Err(Errno::EBUSY),
        Standing::Open | Standing::Closed => set_standing(id, Standing::Closing),
    }
    let half_way = Closing(id);
    mm().remove_group(id).await;
    GROUPS.lock().retain(|group| group.id != id);
    drop(half_way);
    Ok(())
}

fn standing(id: GroupId) -> Option<Standing> {
    GROUPS.lock().iter().find(|group| group.id == id).map(|group| group.standing)
}

fn set_standing(id: GroupId, standing: Standing) {
    GROUPS.lock().iter_mut().filter(|group| group.id == id).for_each(|group| group.standing = standing);
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
    if !id.is_root() && standing(id) != Some(Standing::Open) {
        return Err(Errno::ENODEV);
    }
    mm().set_space_group(process.space(), id);
    Ok(())
}

/// Puts a fresh space into the group of a process: of the one that is going to enter it, or of the one that it is a copy of.
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
