//! Claim: recursion for ever hits the guard page, Rust's handler says so on its alternate stack, and the program ends with
//! SIGABRT, status 134. With the argument `thread` it happens in a spawned thread.

use std::hint::black_box;

#[expect(unconditional_recursion, reason = "that is what the program is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deeper(depth + 1) + frame[(depth % 64) as usize]
}

fn main() {
    println!("about to recurse");
    if std::env::args().nth(1).as_deref() == Some("thread") {
        let result = std::thread::Builder::new().name("deep".to_owned()).spawn(|| deeper(0)).expect("spawn").join();
        println!("FAIL recurse came back: {result:?}");
    } else {
        println!("FAIL recurse came back: {}", deeper(0));
    }
}
