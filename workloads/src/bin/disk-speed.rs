//! `disk-speed [mib=256] [kib=64] [depth=32] [passes=1]`: how fast the first virtio disk is, without a file system or a
//! page cache.
//!
//! Runs on Linux only, where `just bench` takes from it what the swap disk can do: requests of `kib` KiB one behind the
//! other over the first `mib` MiB, `depth` of them at a time (io_submit(2), O_DIRECT), `passes` times. **The disk's
//! contents are lost**, so it must be a swap area that nobody uses. It is written once before anything is measured: a new
//! image has no blocks yet, and a block that was never written reads faster. Prints a RESULT line for each direction.
#![expect(unsafe_code, reason = "system calls that the standard library has no words for")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::ExitCode;
use std::ptr;
use std::time::Instant;

use workloads::arguments;

const DISK: &str = "/dev/vda";
const ABOUT: &str = "How fast /dev/vda is, a swap area that nobody uses, whose contents are lost.";
/// What stands at the end of a swap area's first page (mkswap(8)).
const SIGNATURE: &[u8] = b"SWAPSPACE2";

/// linux/aio_abi.h: what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Operation {
    Read = 0,
    Write = 1,
}

/// `struct iocb`.
#[repr(C)]
struct Request {
    data: u64,
    key: u32,
    flags_of_file: u32,
    operation: Operation,
    priority: i16,
    file: u32,
    buffer: u64,
    length: u64,
    offset: u64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

/// What O_DIRECT demands of memory.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

struct Disk {
    file: File,
    context: libc::c_ulong,
    /// Never freed: an error may leave requests under way.
    buffers: &'static mut [Page],
    /// Of a request, in bytes.
    length: u64,
    depth: usize,
}

impl Disk {
    fn open(kib: u64, depth: usize) -> io::Result<Self> {
        let mut signature = [0; SIGNATURE.len()];
        File::open(DISK)?.read_exact_at(&mut signature, (4096 - SIGNATURE.len()) as u64)?;
        if signature != SIGNATURE {
            return Err(io::Error::other("not a swap area, and would be overwritten"));
        }
        // Without O_CREAT, O_EXCL refuses a block device that is mounted, or used for swap (open(2)).
        let flags = libc::O_DIRECT | libc::O_EXCL;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(DISK)?;
        let mut context: libc::c_ulong = 0;
        // SAFETY: io_setup(2) writes the context's handle to the variable, which lives until the call returns.
        checked(unsafe { libc::syscall(libc::SYS_io_setup, depth, ptr::from_mut(&mut context)) })?;
        let buffers = vec![Page([0x5a; 4096]); depth * kib as usize / 4].leak();
        Ok(Self { file, context, buffers, length: kib << 10, depth })
    }

    /// Does that many requests, one behind the other.
    fn sweep(&mut self, operation: Operation, requests: u64) -> io::Result<()> {
        let mut free: Vec<usize> = (0..self.depth).collect();
        let mut events = vec![Event::default(); self.depth];
        let (mut begun, mut ended) = (0, 0);
        while ended < requests {
            while begun < requests
                && let Some(buffer) = free.pop()
            {
                self.submit(operation, begun, buffer)?;
                begun += 1;
            }
            // SAFETY: io_getevents(2) writes at most as many events as there is room for; there is no limit of time.
            let count = checked(unsafe {
                let (events, none) = (events.as_mut_ptr(), ptr::null::<libc::timespec>());
                libc::syscall(libc::SYS_io_getevents, self.context, 1_u64, self.depth, events, none)
            })?;
            for event in &events[..count as usize] {
                if event.result != self.length as i64 {
                    return Err(io::Error::other(format!("{operation:?}: {} of {} bytes", event.result, self.length)));
                }
                free.push(event.data as usize);
                ended += 1;
            }
        }
        Ok(())
    }

    fn submit(&mut self, operation: Operation, number: u64, buffer: usize) -> io::Result<()> {
        let pages = self.length as usize / 4096;
        let at = ptr::from_mut(&mut self.buffers[buffer * pages]);
        let mut request = Request {
            data: buffer as u64,
            key: 0,
            flags_of_file: 0,
            operation,
            priority: 0,
            file: self.file.as_raw_fd() as u32,
            buffer: at.expose_provenance() as u64,
            length: self.length,
            offset: number * self.length,
            reserved: 0,
            flags: 0,
            event_fd: 0,
        };
        let list = [ptr::from_mut(&mut request)];
        // SAFETY: io_submit(2) copies the request. Its memory is a buffer that is in no other request, long enough, and
        // never freed.
        checked(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1_u64, list.as_ptr()) }).map(drop)
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn main() -> ExitCode {
    let (mut mib, mut kib, mut depth, mut passes) = (256, 64, 32, 1);
    arguments::parse(
        ABOUT,
        &mut [("mib", &mut mib), ("kib", &mut kib), ("depth", &mut depth), ("passes", &mut passes)],
    );
    match measure(mib, kib, depth as usize, passes) {
        Ok(()) => {
            println!("OK disk-speed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAIL disk-speed {DISK}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mib: u64, kib: u64, depth: usize, passes: u64) -> io::Result<()> {
    let mut disk = Disk::open(kib, depth)?;
    let requests = (mib << 10) / kib;
    disk.sweep(Operation::Write, requests)?;
    for (phase, operation) in [("write", Operation::Write), ("read", Operation::Read)] {
        let start = Instant::now();
        for _ in 0..passes {
            disk.sweep(operation, requests)?;
        }
        let (ns, pages) = (start.elapsed().as_nanos(), passes * (mib << 8));
        println!("RESULT kind=disk-speed phase={phase} units={pages} ns={ns}");
    }
    Ok(())
}
