//! One machine that runs one program, under either kernel.
//!
//! Owns QEMU's command line, which is the same for both but for `-kernel`, `-initrd` and `-append`, and what is read
//! when the machine has ended: the lines of its serial port, QEMU's own counts of the disk's requests, and the time
//! from QEMU's start to the guest's end. `ebb` is not used: what it does beside would be in one of two columns only.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ::tests::harness::{Artifacts, qmp::Monitor};
use disk_image::{Pages, builder::create_swap_image};

use super::count::{self, Counts};
use super::linux::{Linux, Setting};

/// Files of one machine.
const SWAP: &str = "swap";
const INITRAMFS: &str = "initramfs";
const COUNTS: &str = "counts";

/// No healthy machine comes near; one that does is ended, and has not ended well.
const LIMIT: Duration = Duration::from_secs(300);

/// Which kernel.
#[derive(Clone, Copy, Debug)]
pub enum System<'a> {
    Ebb,
    Linux(&'a Linux, &'static Setting),
}

/// How fast the swap disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// As fast as QEMU can.
    Unthrottled,
    /// 5000 requests and 100 MB a second.
    Throttled,
}

/// What the time stamp counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time.
    Host,
    /// Instructions, one a tick; an idle machine does not wait. Means nothing for what waits for a disk.
    Instructions,
}

/// The machine and its program.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program's file on the host.
    pub program: PathBuf,
    /// Its arguments, none with a space in it.
    pub arguments: String,
    /// RAM.
    pub ram_mib: u64,
    /// Swap; none, and there is no disk.
    pub swap_mib: Option<u64>,
    /// Its disk.
    pub disk: Disk,
    /// Its clock.
    pub clock: Clock,
    /// What the disk is to the kernel.
    pub purpose: Purpose,
    /// What Ebb makes of pages before they go there.
    pub tier: Tier,
    /// Whether QEMU counts instructions, which makes it about half as fast.
    pub counted: bool,
    /// How long it may take.
    pub limit: Duration,
}

/// What the disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The kernel swaps there.
    Swap,
    /// The program does as it likes.
    Raw,
}

/// Whether Ebb has its compressed tier, which is off unless asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Off,
    Auto,
}

/// A machine that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What came over the serial port.
    pub console: String,
    /// From QEMU's start to the guest's end; none if it was ended.
    pub wall: Option<Duration>,
    /// Requests for swap.
    pub requests: Requests,
    /// What was counted.
    pub counts: Counts,
}

/// QEMU's counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// Requests to write.
    pub writes: u64,
    /// Bytes that were written.
    pub written: u64,
}

impl Machine {
    /// 64 MiB of RAM, 1 GiB of swap, an unthrottled disk.
    pub fn new(program: &Path, arguments: &str) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.to_owned(),
            ram_mib: 64,
            swap_mib: Some(1024),
            disk: Disk::Unthrottled,
            clock: Clock::Host,
            purpose: Purpose::Swap,
            tier: Tier::Off,
            counted: false,
            limit: LIMIT,
        }
    }

    /// The same without swap, its clock counting instructions.
    pub fn counting(program: &Path, arguments: &str) -> Self {
        Self { swap_mib: None, clock: Clock::Instructions, ..Self::new(program, arguments) }
    }

    /// The same with another size of RAM.
    pub fn ram_mib(self, ram_mib: u64) -> Self {
        Self { ram_mib, ..self }
    }

    /// The same with another size of swap.
    pub fn swap_mib(self, swap_mib: u64) -> Self {
        Self { swap_mib: Some(swap_mib), ..self }
    }

    /// The same with a slow disk.
    pub fn throttled(self) -> Self {
        Self { disk: Disk::Throttled, ..self }
    }

    /// The same with its disk for the program.
    pub fn raw_disk(self) -> Self {
        Self { purpose: Purpose::Raw, ..self }
    }

    /// The same with Ebb's compressed tier when it pays.
    pub fn compressing(self) -> Self {
        Self { tier: Tier::Auto, ..self }
    }

    /// The same with every instruction counted.
    pub fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    /// The same, but ended after that time.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Runs to the end, or to the limit.
    pub fn run(&self, system: System<'_>) -> Ended {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let serial = scratch.path().join("serial");
        let arguments = self.arguments(system, scratch.path(), &serial);
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let [stdin, stdout] =
            [theirs.try_clone().expect("one more"), theirs].map(|end| Stdio::from(OwnedFd::from(end)));
        let begun = Instant::now();
        // Whatever becomes of this program, QEMU does not stay behind (setpriv(1), prctl(2): PR_SET_PDEATHSIG).
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]).args(arguments).stdin(stdin).stdout(stdout);
        let mut qemu = command.spawn().unwrap_or_else(|error| panic!("qemu-system-x86_64: {error}"));
        // Its copy of the other end would keep QEMU's death from being seen.
        drop(command);
        let mut monitor = Monitor::on(ours);
        // QEMU has opened and read its files; if the rest is interrupted, nothing large stays behind.
        for name in [SWAP, INITRAMFS] {
            fs::remove_file(scratch.path().join(name)).or_else(unless_missing).expect("a file can be removed");
        }
        let wall = monitor.wait_for("SHUTDOWN", self.limit).then(|| begun.elapsed());
        let requests = Requests::of(&mut monitor);
        qemu.kill().and_then(|()| qemu.wait()).expect("QEMU ends");
        let console = String::from_utf8_lossy(&fs::read(&serial).unwrap_or_default()).replace('\r', "");
        let counts = Counts::read(&scratch.path().join(COUNTS));
        Ended { console, wall, requests, counts }
    }

    fn arguments(&self, system: System<'_>, scratch: &Path, serial: &Path) -> Vec<OsString> {
        let mut list = Vec::<OsString>::new();
        let mut add = |words: &str| list.extend(words.split_ascii_whitespace().map(OsString::from));
        add("-accel tcg -machine q35 -cpu max,la57=off,erms=off,fsrm=off -smp 1 -mem-prealloc");
        add("-nodefaults -no-user-config -display none -qmp stdio -action reboot=shutdown,shutdown=pause");
        add(&format!("-m {}M", self.ram_mib));
        if self.clock == Clock::Instructions {
            add("-icount shift=0,sleep=off");
        }
        if let Some(mib) = self.swap_mib {
            let image = scratch.join(SWAP);
            create_swap_image(&image, Pages(mib * 256)).expect("a swap image");
            let throttle = match self.disk {
                Disk::Unthrottled => "",
                Disk::Throttled => ",throttling.iops-total=5000,throttling.bps-total=100000000",
            };
            let drive = "if=none,id=swap,format=raw,cache=unsafe,aio=threads,discard=unmap";
            add(&format!("-drive {drive}{throttle},file={}", image.display()));
            add("-device virtio-blk-pci,drive=swap");
        }
        add(&format!("-serial file:{}", serial.display()));
        let swap = self.swap_mib.is_some() && self.purpose == Purpose::Swap;
        let (kernel, initrd, line) = match system {
            System::Ebb => (
                Artifacts::release().kernel.clone(),
                self.program.clone(),
                format!("{}-- {} {}", self.tier.option(), self.name(), self.arguments),
            ),
            System::Linux(linux, setting) => (
                linux.kernel.clone(),
                linux.initramfs(&scratch.join(INITRAMFS), &self.program),
                linux.command_line(setting, swap, &format!("/{} {}", self.name(), self.arguments)),
            ),
        };
        if self.counted {
            add(&format!("-plugin {}", count::option(&kernel, &scratch.join(COUNTS))));
        }
        list.extend(["-kernel".into(), kernel.into(), "-initrd".into(), initrd.into(), "-append".into(), line.into()]);
        list
    }

    fn name(&self) -> String {
        self.program.file_name().expect("a file").to_string_lossy().into_owned()
    }
}

impl Tier {
    fn option(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Auto => "swap.compress=auto ",
        }
    }
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

impl Requests {
    fn of(monitor: &mut Monitor) -> Self {
        let answer = monitor.execute("query-blockstats");
        let of_disk = |name: &str| answer[0]["stats"][name].as_u64().unwrap_or(0);
        Self { writes: of_disk("wr_operations"), written: of_disk("wr_bytes") }
    }

    /// The mean of all rounds.
    pub fn mean(rounds: &[Ended]) -> Self {
        let mean = |count: fn(&Self) -> u64| {
            rounds.iter().map(|ended| count(&ended.requests)).sum::<u64>() / rounds.len().max(1) as u64
        };
        Self { writes: mean(|requests| requests.writes), written: mean(|requests| requests.written) }
    }

    /// What was written beyond what another machine has written, in pages a request.
    pub fn pages_per_write(self, other: Self) -> f64 {
        let requests = self.writes.saturating_sub(other.writes).max(1);
        (self.written.saturating_sub(other.written) >> 12) as f64 / requests as f64
    }
}

impl Ended {
    /// Whether the program says that all went well.
    pub fn well(&self) -> bool {
        self.console.lines().any(|line| line.starts_with("OK "))
    }

    /// A number of a line that begins so: `key=number`. What did not move is not shown, and is 0.
    pub fn value(&self, beginning: &str, key: &str) -> u64 {
        let line = self.console.lines().find(|line| line.starts_with(beginning));
        let line = line.unwrap_or_else(|| panic!("no line begins with {beginning:?}:\n{}", self.console));
        line.split(' ')
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| *name == key)
            .map_or(0, |(_, number)| number.parse().expect("a number"))
    }

    /// A number of the run phase.
    pub fn of_run(&self, key: &str) -> u64 {
        let line = self.console.lines().find(|line| line.starts_with("RESULT ") && line.contains(" phase=run "));
        self.value(line.unwrap_or("RESULT of a run phase"), key)
    }

    /// Resident pages of the program: in the mean over the run phase if it counts them there, or else at its end.
    pub fn resident(&self) -> usize {
        let pages = match self.of_run("rss_mean_pages") {
            0 => self.of_run("rss_pages"),
            mean => mean,
        };
        pages as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ended, Requests};

    fn ended(writes: u64, pages: u64) -> Ended {
        let (console, wall, counts) = (String::new(), Some(Duration::ZERO), super::Counts::default());
        Ended { console, wall, requests: Requests { writes, written: pages << 12 }, counts }
    }

    #[test]
    fn what_populating_takes_is_the_mean_of_its_rounds_and_goes_off() {
        let populating = Requests::mean(&[ended(10, 100), ended(30, 300)]);
        assert_eq!((populating.writes, populating.written), (20, 200 << 12));
        assert_eq!(ended(70, 1000).requests.pages_per_write(populating), 16.0);
        assert_eq!(ended(20, 200).requests.pages_per_write(populating), 0.0, "nothing was written");
    }

    #[test]
    fn numbers_are_read_from_the_line_of_the_run_phase() {
        let console =
            "RESULT kind=zipf phase=populate units=1 ns=2\nRESULT kind=zipf phase=run units=30 ns=40 sum=f\nOK zipf\n";
        let ended = Ended { console: console.to_owned(), ..ended(0, 0) };
        assert_eq!((ended.of_run("units"), ended.of_run("ns")), (30, 40));
        assert_eq!(ended.of_run("pswpin"), 0, "what did not move is not shown");
        assert!(ended.well());
    }

    #[test]
    fn resident_pages_are_the_mean_where_the_program_takes_it() {
        let resident = |pages: &str| {
            Ended { console: format!("RESULT kind=zipf phase=run {pages} sum=f\n"), ..ended(0, 0) }.resident()
        };
        assert_eq!(resident("rss_pages=15000 rss_mean_pages=14000"), 14_000);
        assert_eq!(resident("rss_pages=15000"), 15_000);
    }
}
