//! A QEMU without a machine: plays one canned exchange over the sockets that ebb hands to QEMU.
//!
//! `EBB_FAKE` holds the script, statements separated by `;`:
//! `boot`, `out TEXT` (COM1), `say LINE` (COM2), `exit OUTCOME STATUS`, `echo` (stdin back to stdout
//! until `stdin-eof`), `sleep MS`, `hang`, `spam N`, `pid FILE`, `end STATUS` (as isa-debug-exit does:
//! pause, wait for `quit`, exit), `die STATUS` (at once), `reset` (as a triple fault does). In TEXT and
//! LINE, `\n` is a line's end.

#![expect(unsafe_code, reason = "descriptors arrive as numbers")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::time::Duration;

struct Machine {
    console: UnixStream,
    telemetry: UnixStream,
    control: BufReader<UnixStream>,
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.iter().any(|word| word == "--version") {
        let version = std::env::var("EBB_FAKE_VERSION").unwrap_or_else(|_| "10.0.2".to_owned());
        println!("QEMU emulator version {version} (a test double)");
        return;
    }
    let script = std::env::var("EBB_FAKE").unwrap_or_default();
    if let Ok(file) = std::env::var("EBB_FAKE_ARGUMENTS") {
        std::fs::write(file, arguments.join("\n")).unwrap();
    }
    let socket = |id: &str| {
        let prefix = format!("socket,id={id},fd=");
        let number = arguments.iter().find_map(|word| word.strip_prefix(&prefix)).expect("a socket");
        // SAFETY: ebb passes each of these descriptors to this process for its sole use, and each is
        // taken once.
        unsafe { UnixStream::from_raw_fd(number.parse().unwrap()) }
    };
    let control = socket("qmp");
    let mut machine = Machine { console: socket("com1"), telemetry: socket("com2"), control: BufReader::new(control) };
    machine.control("{\"QMP\": {\"version\": {}, \"capabilities\": []}}");
    assert!(machine.request().contains("qmp_capabilities"));
    machine.control("{\"return\": {}, \"id\": \"qmp_capabilities\"}");
    for statement in script.split(';') {
        machine.play(statement.trim());
    }
    machine.end(0, "guest-shutdown");
}

impl Machine {
    fn play(&mut self, statement: &str) {
        let (verb, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        let text = rest.replace("\\n", "\n");
        match verb {
            "" => {}
            "boot" => self.say("@{\"type\":\"boot\",\"ram_bytes\":67108864,\"swap\":null,\"program\":\"x\"}"),
            "out" => self.console.write_all(text.as_bytes()).unwrap(),
            "say" => self.say(&text),
            "exit" => self.exit_record(rest),
            "echo" => self.echo(),
            "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap())),
            "hang" => self.hang(),
            "spam" => (0..rest.parse().unwrap()).for_each(|n| {
                self.say(&format!("@{{\"type\":\"snapshot\",\"t_ns\":{n},\"vmstat\":{{\"pgfault\":{n}}}}}"));
            }),
            "pid" => std::fs::write(rest, std::process::id().to_string()).unwrap(),
            "end" => self.end(rest.parse().unwrap(), "guest-shutdown"),
            "reset" => self.end(0, "guest-reset"),
            "die" => {
                eprintln!("fake: last words");
                exit(rest.parse().unwrap());
            }
            other => panic!("unknown statement {other}"),
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.telemetry, "{line}").unwrap();
    }

    fn control(&mut self, line: &str) {
        writeln!(self.control.get_mut(), "{line}").unwrap();
    }

    fn request(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }

    fn exit_record(&mut self, rest: &str) {
        let (outcome, status) = rest.split_once(' ').unwrap();
        let status: u8 = status.parse().unwrap();
        let signal = if outcome == "exited" { "null".to_owned() } else { (status - 128).to_string() };
        self.say(&format!(
            "@{{\"type\":\"exit\",\"outcome\":\"{outcome}\",\"status\":{status},\"signal\":{signal},\"t_ns\":1000000,\
             \"vmstat\":{{\"pgfault\":9,\"pgmajfault\":2,\"pswpin\":2,\"pswpout\":3}},\
             \"pages\":{{\"uncommitted\":1,\"committed_clean\":2,\"committed_dirty\":3,\"paged_out\":4}},\
             \"disk\":{{\"swap\":{{\"reads\":1,\"writes\":1,\"read_bytes\":8192,\"write_bytes\":12288,\"flushes\":0}}}},\
             \"identities\":\"ok\"}}"
        ));
    }

    /// Sends the program's input back as its output, as `cat` would.
    fn echo(&mut self) {
        let mut line = String::new();
        BufReader::new(self.telemetry.try_clone().unwrap()).read_line(&mut line).unwrap();
        let total: usize = line.trim().strip_prefix("stdin-eof ").expect(&line).parse().unwrap();
        let mut input = vec![0; total];
        self.console.read_exact(&mut input).unwrap();
        self.console.write_all(&input).unwrap();
    }

    /// A guest that does nothing more, under a QEMU that still listens.
    fn hang(&mut self) -> ! {
        self.answer_until_quit();
        exit(0);
    }

    fn end(&mut self, status: i32, reason: &str) -> ! {
        let data = format!("{{\"guest\": true, \"reason\": \"{reason}\"}}");
        self.control(&format!("{{\"event\": \"SHUTDOWN\", \"data\": {data}}}"));
        self.answer_until_quit();
        exit(status);
    }

    /// A deaf one (`EBB_FAKE_DEAF`) never quits, as a QEMU stuck in I/O does not.
    fn answer_until_quit(&mut self) {
        let deaf = std::env::var_os("EBB_FAKE_DEAF").is_some();
        loop {
            let request = self.request();
            if request.contains("query-blockstats") {
                let stats = "{\"rd_bytes\": 12288, \"rd_operations\": 2}";
                let disks = format!("[{{\"device\": \"swap\", \"stats\": {stats}}}]");
                self.control(&format!("{{\"return\": {disks}, \"id\": \"query-blockstats\"}}"));
            } else if deaf {
                std::thread::sleep(Duration::from_secs(60));
            } else {
                return;
            }
        }
    }
}
