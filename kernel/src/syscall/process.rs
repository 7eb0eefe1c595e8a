//! Calls about the thread itself and the machine it runs on. Relatives and limits: `relations.rs`, `limits.rs`.

use x86_64::VirtAddr;
use zerocopy::FromZeros;

use super::Verdict;
use super::abi::{NS_PER_S, SysInfo, USER_END, UtsName, check_user_range};
use super::errno::{Errno, SysResult};
use crate::arch;
use crate::process::futex::ANY_BITSET;
use crate::process::process::{Outcome, Tid};
use crate::process::thread::Thread;
use crate::process::{memory, table};
use crate::{load, time};

/// set_tid_address(2).
pub(super) fn set_tid_address(thread: &mut Thread, address: u64) -> SysResult {
    thread.clear_child_tid = address;
    Ok(thread.state.tid().number().into())
}

/// set_robust_list(2): taken, and not looked at: a thread that dies takes its process along. Other processes that share a
/// mutex with it are not told (README says so).
pub(super) fn set_robust_list(len: u64) -> SysResult {
    const ROBUST_LIST_HEAD: u64 = 24;
    if len == ROBUST_LIST_HEAD { Ok(0) } else { Err(Errno::EINVAL) }
}

/// exit(2): this thread only.
pub(super) async fn exit(thread: &mut Thread, status: u64) -> Verdict {
    let process = &thread.process;
    process.note_thread_exit(&thread.state, status as u8);
    let address = thread.clear_child_tid;
    if address != 0 && process.write_object(address, &0_u32).await.is_ok() {
        let word = thread.space.word_at(address);
        thread.space.futexes_of(word).wake(word, ANY_BITSET, 1);
    }
    Verdict::Exit
}

/// exit_group(2).
pub(super) fn exit_group(thread: &Thread, status: u64) -> Verdict {
    thread.process.begin_end(Outcome::Exited(status as u8));
    Verdict::Exit
}

/// getrandom(2): never blocks, so the flags change nothing.
pub(super) async fn getrandom(thread: &Thread, out: u64, len: u64, flags: u64) -> SysResult {
    const KNOWN: u64 = 7;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    check_user_range(out, len)?;
    // Linux gives at most 32 MiB - 1 at a time; a page is as legal an answer to those who ask for more.
    let len = len.min(4096);
    let mut done = 0;
    while done < len {
        let mut chunk = [0; 32];
        let part = chunk.len().min((len - done) as usize);
        arch::random::fill(&mut chunk[..part]);
        thread.process.write_bytes(out + done, &chunk[..part]).await?;
        done += part as u64;
    }
    Ok(len)
}

/// uname(2). The release says which Linux the ABI follows: glibc refuses to start below 3.2.
pub(super) async fn uname(thread: &Thread, out: u64) -> SysResult {
    const VERSION: &str = concat!("Ebb ", env!("CARGO_PKG_VERSION"));
    let fields = ["Linux", "ebb", "6.1.0-ebb", VERSION, "x86_64", "(none)"];
    let names = || {
        let mut names = UtsName::new_zeroed();
        for (field, text) in names.fields.iter_mut().zip(fields) {
            field[..text.len()].copy_from_slice(text.as_bytes());
        }
        names
    };
    thread.process.write_made(out, names).await?;
    Ok(0)
}

/// arch_prctl(2).
pub(super) async fn arch_prctl(thread: &mut Thread, what: u64, address: u64) -> SysResult {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    match what {
        ARCH_SET_FS | ARCH_SET_GS if address >= USER_END => return Err(Errno::EPERM),
        ARCH_SET_FS => thread.machine.set_tls(VirtAddr::new(address)),
        ARCH_SET_GS => thread.machine.set_gs(VirtAddr::new(address)),
        ARCH_GET_FS => thread.process.write_object(address, &thread.machine.tls().as_u64()).await?,
        ARCH_GET_GS => thread.process.write_object(address, &thread.machine.gs().as_u64()).await?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// sysinfo(2).
pub(super) async fn sysinfo(thread: &Thread, out: u64) -> SysResult {
    let usage = memory::Usage::of(&memory::snapshot());
    let mut info = SysInfo::new_zeroed();
    info.uptime = (time::now_ns() / NS_PER_S).cast_signed();
    info.loads = load::now().averages.map(load::Fixed::with_16_bits);
    info.totalram = usage.ram_bytes;
    info.freeram = usage.free_bytes;
    info.totalswap = usage.swap_bytes;
    info.freeswap = usage.swap_free_bytes;
    info.procs = table::thread_count() as u16;
    info.mem_unit = 1;
    thread.process.write_object(out, &info).await?;
    Ok(0)
}

/// sched_getaffinity(2): there is one CPU.
pub(super) async fn sched_getaffinity(thread: &Thread, [tid, len, out]: [u64; 3]) -> SysResult {
    const MASK_BYTES: u64 = 8;
    if len < MASK_BYTES || !len.is_multiple_of(MASK_BYTES) {
        return Err(Errno::EINVAL);
    }
    if tid != 0 && thread.process.thread(Tid::from_number(tid)).is_none() {
        return Err(Errno::ESRCH);
    }
    thread.process.write_object(out, &1_u64).await?;
    Ok(MASK_BYTES)
}

/// getcpu(2).
pub(super) async fn getcpu(thread: &Thread, cpu: u64, node: u64) -> SysResult {
    thread.process.write_optional(cpu, &0_u32).await?;
    thread.process.write_optional(node, &0_u32).await?;
    Ok(0)
}
