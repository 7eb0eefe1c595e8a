//! Claim: a program can supply pages itself, by computing them (userfaultfd(2)), and a pager that misbehaves harms nobody but its
//! clients: one that never answers is killed with them, one that answers twice is told so, one that unmaps or closes lets them go on.
//!
//! `userpager [SCENARIO]`: `serve`, `twice`, `zero`, `close`, `wake`, `refusals`, `blocking`, `part`, `child`, `silent`, `itself`; without: all.
#![expect(unsafe_code, reason = "system calls, and memory that faults when it is touched")]

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use workloads::claim::Claims;

const PAGE: usize = 4096;
const API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WAKE: u64 = 0x8010_aa02;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;
const EVENT_PAGEFAULT: u8 = 0x12;
const USER_MODE_ONLY: libc::c_int = 1;

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    flags: u64,
    address: u64,
    thread: u64,
}

/// A pager's file.
#[derive(Clone, Copy)]
struct Pager(libc::c_int);

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

impl Pager {
    fn open(flags: libc::c_int) -> Self {
        // SAFETY: makes a file descriptor and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY | flags) };
        assert!(fd >= 0, "userfaultfd: {}", io::Error::last_os_error());
        Self(fd as libc::c_int)
    }

    fn ready(flags: libc::c_int) -> Self {
        let pager = Self::open(flags);
        assert_eq!(pager.call(UFFDIO_API, &mut [API, 0, 0]), Ok(()), "the handshake");
        pager
    }

    fn call(self, request: u64, argument: &mut [u64]) -> Result<(), i32> {
        // SAFETY: every request reads and writes a structure of 64-bit fields no longer than `argument`.
        let result = unsafe { libc::ioctl(self.0, request as _, argument.as_mut_ptr()) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }

    fn register(self, at: usize, pages: usize) -> Result<(), i32> {
        self.call(UFFDIO_REGISTER, &mut [at as u64, (pages * PAGE) as u64, 1, 0])
    }

    fn copy(self, to: usize, from: &[u64; PAGE / 8], mode: u64) -> Result<(), i32> {
        self.call(UFFDIO_COPY, &mut [to as u64, from.as_ptr().addr() as u64, PAGE as u64, mode, 0])
    }

    fn read(self) -> Result<Message, i32> {
        let mut message = Message::default();
        // SAFETY: the kernel writes at most the message's size.
        let count = unsafe { libc::read(self.0, (&raw mut message).cast(), size_of::<Message>()) };
        if count == size_of::<Message>() as isize { Ok(message) } else { Err(errno()) }
    }

    fn is_readable(self, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: self.0, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry.
        let count = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        count == 1 && poll.revents == libc::POLLIN
    }

    /// The next fault's page.
    fn fault(self) -> usize {
        assert!(self.is_readable(-1), "poll");
        let message = self.read().expect("poll said so");
        assert_eq!(message.event, EVENT_PAGEFAULT);
        message.address as usize
    }

    fn close(self) {
        // SAFETY: nobody else has the descriptor.
        unsafe { libc::close(self.0) };
    }
}

fn map(pages: usize) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at.addr()
}

/// Reads a word of memory that this program has mapped.
fn read(at: usize) -> u64 {
    // SAFETY: only called for mapped memory.
    unsafe { (at as *const u64).read_volatile() }
}

fn write(at: usize, value: u64) {
    // SAFETY: only called for memory mapped writable that holds no Rust value.
    unsafe { (at as *mut u64).write_volatile(value) }
}

/// What page `number` is made of.
fn computed(number: usize) -> [u64; PAGE / 8] {
    std::array::from_fn(|word| (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word as u64)
}

/// Three threads touch pages that a fourth computes when they are missing.
fn serve(claims: &mut Claims) {
    const PAGES: usize = 64;
    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(PAGES));
    claims.holds("a range is registered", pager.register(at, PAGES) == Ok(()));
    claims.holds("nothing is missing yet", !pager.is_readable(0) && pager.read().err() == Some(libc::EAGAIN));
    let wrong = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..3 {
            let wrong = &wrong;
            scope.spawn(move || {
                for i in 0..PAGES {
                    let page = (i * 7 + client * 21) % PAGES;
                    let word = (i + client) % (PAGE / 8);
                    wrong.fetch_add(
                        u64::from(read(at + page * PAGE + word * 8) != computed(page)[word]),
                        Ordering::Relaxed,
                    );
                }
            });
        }
        let mut served = 0;
        while served < PAGES {
            let page = (pager.fault() - at) / PAGE;
            match pager.copy(at + page * PAGE, &computed(page), 0) {
                Ok(()) => served += 1,
                // Another client's message for a page that is there by now: wake it.
                Err(libc::EEXIST) => {
                    let _ = pager.call(UFFDIO_WAKE, &mut [(at + page * PAGE) as u64, PAGE as u64]);
                }
                Err(other) => panic!("copy: errno {other}"),
            }
        }
    });
    claims.holds("every page is what was computed", wrong.load(Ordering::Relaxed) == 0);
    pager.close();
}

fn twice(claims: &mut Claims) {
    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(2));
    pager.register(at, 1).expect("register");
    claims.holds("a page can be supplied before it is missing", pager.copy(at, &computed(0), 0) == Ok(()));
    claims.holds("not twice", pager.copy(at, &computed(1), 0) == Err(libc::EEXIST));
    claims.holds("the first one counts", read(at) == computed(0)[0]);
    claims.holds("not outside", pager.copy(at + PAGE, &computed(1), 0) == Err(libc::ENOENT));
    let mut partly = [at as u64, PAGE as u64, 0, 0];
    claims.holds("zeroes neither", pager.call(UFFDIO_ZEROPAGE, &mut partly) == Err(libc::EEXIST));
    pager.close();
}

fn zero(claims: &mut Claims) {
    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(4));
    pager.register(at, 4).expect("register");
    let client = thread::spawn(move || {
        write(at + PAGE, 5);
        (read(at + PAGE), read(at + PAGE + 8))
    });
    let page = pager.fault();
    claims.holds("the page's address is told", page == at + PAGE);
    let mut range = [page as u64, PAGE as u64, 0, 0];
    claims.holds("a page of zeroes", pager.call(UFFDIO_ZEROPAGE, &mut range) == Ok(()) && range[3] == PAGE as u64);
    claims.holds("it can be written", client.join().ok() == Some((5, 0)));
    pager.close();
}

/// Who waits when the pager goes finds memory like any other.
fn close(claims: &mut Claims) {
    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(2));
    pager.register(at, 2).expect("register");
    let client = thread::spawn(move || read(at));
    pager.fault();
    pager.close();
    claims.holds("closed: zeroes", client.join().ok() == Some(0));

    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(2));
    pager.register(at, 2).expect("register");
    let client = thread::spawn(move || read(at + PAGE));
    pager.fault();
    claims.holds("unregistered", pager.call(UFFDIO_UNREGISTER, &mut [at as u64, 2 * PAGE as u64]) == Ok(()));
    claims.holds("unregistered: zeroes", client.join().ok() == Some(0));
    pager.close();
}

/// Woken without an answer, a client asks again; an answer may come without waking.
fn wake(claims: &mut Claims) {
    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(1));
    pager.register(at, 1).expect("register");
    let client = thread::spawn(move || read(at));
    pager.fault();
    let mut range = [at as u64, PAGE as u64];
    claims.holds("woken", pager.call(UFFDIO_WAKE, &mut range) == Ok(()));
    claims.holds("it asks again", pager.fault() == at);
    claims.holds("an answer without waking", pager.copy(at, &computed(3), 1) == Ok(()));
    claims.holds("woken again", pager.call(UFFDIO_WAKE, &mut range) == Ok(()));
    claims.holds("answered", client.join().ok() == Some(computed(3)[0]));
    pager.close();
}

fn refusals(claims: &mut Claims) {
    let pager = Pager::open(libc::O_NONBLOCK);
    let at = map(2);
    claims.holds("nothing before the handshake", pager.register(at, 1) == Err(libc::EINVAL));
    claims.holds("no read either", pager.read().err() == Some(libc::EINVAL));
    claims.holds("another version", pager.call(UFFDIO_API, &mut [API + 1, 0, 0]) == Err(libc::EINVAL));
    claims.holds("a feature nobody has", pager.call(UFFDIO_API, &mut [API, 1 << 62, 0]) == Err(libc::EINVAL));
    let mut api = [API, 0, 0];
    claims.holds("the handshake", pager.call(UFFDIO_API, &mut api) == Ok(()) && api[2] & 3 == 3);
    claims.holds("no second one", pager.call(UFFDIO_API, &mut api) == Err(libc::EINVAL));
    claims.holds("not a page", pager.call(UFFDIO_REGISTER, &mut [at as u64 + 8, 4096, 1, 0]) == Err(libc::EINVAL));
    claims.holds("nothing long", pager.call(UFFDIO_REGISTER, &mut [at as u64, 0, 1, 0]) == Err(libc::EINVAL));
    claims.holds("no mode", pager.call(UFFDIO_REGISTER, &mut [at as u64, 4096, 0, 0]) == Err(libc::EINVAL));
    pager.register(at, 1).expect("register");
    let other = Pager::ready(libc::O_NONBLOCK);
    claims.holds("one pager a range", other.register(at, 1) == Err(libc::EBUSY));
    let mut copy = [at as u64, 8, PAGE as u64, 0, 0];
    claims.holds("a bad source", pager.call(UFFDIO_COPY, &mut copy) == Err(libc::EFAULT));
    pager.close();
    claims.holds("free again", other.register(at, 1) == Ok(()));
    other.close();
}

/// A pager that waits in read(2) rather than in poll(2).
fn blocking(claims: &mut Claims) {
    let (pager, at) = (Pager::ready(0), map(8));
    pager.register(at, 8).expect("register");
    let server = thread::spawn(move || {
        for _ in 0..8 {
            let message = pager.read().expect("a message");
            let page = (message.address as usize - at) / PAGE;
            pager.copy(at + page * PAGE, &computed(page), 0).expect("copy");
        }
    });
    let right = (0..8).all(|page| read(at + page * PAGE) == computed(page)[0]);
    claims.holds("served by reads that wait", right && server.join().is_ok());
    pager.close();
}

/// A buffer that ends after the first message: what was delivered counts.
fn part(claims: &mut Claims) {
    const SIZE: usize = size_of::<Message>();
    let (pager, at, room) = (Pager::ready(libc::O_NONBLOCK), map(2), map(2));
    pager.register(at, 2).expect("register");
    // SAFETY: a page of our own that nobody uses.
    unsafe { libc::munmap((room + PAGE) as *mut libc::c_void, PAGE) };
    let clients = [0, 1].map(|page| thread::spawn(move || read(at + page * PAGE)));
    assert!(pager.is_readable(-1), "poll");
    // So that the other one asks, too, most of the time.
    (0..100).for_each(|_| thread::yield_now());
    let buffer = room + PAGE - SIZE;
    // SAFETY: of the buffer, the kernel can write the first half.
    let count = unsafe { libc::read(pager.0, buffer as *mut libc::c_void, 2 * SIZE) };
    claims.equal("bytes of a message and no room", count, SIZE as isize);
    claims.equal("the event", read(buffer) as u8, EVENT_PAGEFAULT);
    for page in 0..2 {
        claims.holds("an answer", pager.copy(at + page * PAGE, &computed(page), 0) == Ok(()));
    }
    let loaded = clients.map(|client| client.join().unwrap_or(0));
    claims.equal("both are answered", loaded, [0, 1].map(|page| computed(page)[0]));
    pager.close();
}

/// The client ends as a child of this process; its wait status.
fn in_a_child(client: impl FnOnce()) -> i32 {
    // SAFETY: the child only touches memory, makes system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        client();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: a child of ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// What is registered is not registered in a child: its memory is like any other.
fn child(claims: &mut Claims) {
    let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(1));
    pager.register(at, 1).expect("register");
    let status = in_a_child(|| {
        // SAFETY: ends the child.
        unsafe { libc::_exit(if read(at) == 0 { 3 } else { 4 }) }
    });
    claims.holds("a child finds zeroes", libc::WEXITSTATUS(status) == 3);
    claims.holds("and asks nobody", !pager.is_readable(0));
    pager.close();
}

/// Nobody ever answers: whoever waits can be killed, and its process is gone.
fn silent(claims: &mut Claims) {
    let status = in_a_child(|| {
        let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(4));
        pager.register(at, 4).expect("register");
        let pid = std::process::id() as libc::pid_t;
        for page in 0..3 {
            thread::spawn(move || read(at + page * PAGE));
        }
        for _ in 0..3 {
            pager.fault();
        }
        // SAFETY: the child kills itself, with three threads in a fault.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        read(at + 3 * PAGE);
    });
    claims.holds("killed while nobody answers", libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);
}

/// The pager touches what only it could supply; an alarm ends it.
fn itself(claims: &mut Claims) {
    let status = in_a_child(|| {
        let (pager, at) = (Pager::ready(libc::O_NONBLOCK), map(1));
        pager.register(at, 1).expect("register");
        // SAFETY: the alarm's default is to end the process.
        unsafe { libc::alarm(1) };
        read(at);
    });
    claims.holds("waits for itself until killed", libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM);
}

type Scenario = (&'static str, fn(&mut Claims));
const SCENARIOS: [Scenario; 11] = [
    ("serve", serve),
    ("twice", twice),
    ("zero", zero),
    ("close", close),
    ("wake", wake),
    ("refusals", refusals),
    ("blocking", blocking),
    ("part", part),
    ("child", child),
    ("silent", silent),
    ("itself", itself),
];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let mut claims = Claims::new("userpager");
    for (name, scenario) in SCENARIOS {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            scenario(&mut claims);
        }
    }
    claims.finish("")
}
