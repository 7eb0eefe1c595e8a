//! What goes in and out: the program's bytes, unchanged, both ways.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use super::bench::{Bench, wait_gone};

#[test]
fn output_is_passed_on_unchanged_and_alone() {
    let done = Bench::new("boot; out one\\ntwo\\r\\n@{\"type\":\"panic\"}\\n\x1b[1mü; exit exited 0; end 33").run();
    assert_eq!(done.is("exited", 0).stdout, "one\ntwo\\r\n@{\"type\":\"panic\"}\n\x1b[1mü".as_bytes());
}

#[test]
fn input_reaches_the_program_unchanged() {
    let input: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 256) as u8).collect();
    for input in [&b""[..], b"hello\n", b"no end of line\r", &input] {
        let mut bench = Bench::new("boot; echo; exit exited 0; end 33").program(&["./prog"]);
        bench.command.stdin(Stdio::piped());
        let mut child = bench.start();
        let (mut stdin, bytes) = (child.stdin.take().unwrap(), input.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        // The double reads everything before it sends anything back, as far as the sockets' buffers go.
        let done = bench.finish(child.wait_with_output().unwrap());
        writer.join().unwrap();
        assert!(done.is("exited", 0).stdout == input, "{} bytes of {}", done.stdout.len(), input.len());
    }
}

#[test]
fn a_program_need_not_read_its_input() {
    let mut bench = Bench::new("boot; exit exited 5; end 33").program(&["./prog"]);
    bench.command.stdin(Stdio::piped());
    let mut child = bench.start();
    let stdin = child.stdin.take();
    // stdin stays open, as a terminal does: ebb must not wait for its end.
    let done = bench.finish(child.wait_with_output().unwrap());
    drop(stdin);
    done.is("exited", 5);
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let mut bench = Bench::new("boot; out first\\n; pid pid; sleep 200; out second\\n; hang").program(&["./prog"]);
    let mut child = bench.start();
    let mut first = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let pid = bench.qemu_pid("pid");
    let done = bench.finish(child.wait_with_output().unwrap());
    assert_eq!(&first, b"first\n");
    done.is("interrupted", 141);
    wait_gone(pid);
}
