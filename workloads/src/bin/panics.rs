//! Claim: a panic prints its message, unwinds (destructors run) and ends the program with status 101.

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        println!("OK panics unwound");
    }
}

fn main() {
    let _guard = Guard;
    panic!("as announced");
}
