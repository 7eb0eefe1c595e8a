//! Claim: an ordinary static Rust program starts, uses its heap, prints and ends.

fn main() {
    let words: Vec<String> = (1..=1000_u32).map(|n| n.to_string()).collect();
    let digits: usize = words.iter().map(String::len).sum();
    println!("hello, {digits} digits on the heap");
    println!("OK hello");
}
