//! Claim: standard input reaches the program, byte for byte, up to its end. Copies it to stdout and counts.

use std::io::{self, Read, Write};

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut buffer = [0; 4096];
    let (mut bytes, mut sum, mut last) = (0_u64, 0_u64, b'\n');
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = &buffer[..length];
        output.write_all(piece)?;
        bytes += length as u64;
        sum = piece.iter().fold(sum, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        last = piece[length - 1];
    }
    if last != b'\n' {
        output.write_all(b"\n")?;
    }
    writeln!(output, "OK stdin-cat bytes={bytes} sum={sum:x}")
}
