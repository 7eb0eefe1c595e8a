//! Prints docs/replacement.md: the replacement policies on the same reference strings.

fn main() {
    print!("{}", tests::replacement::page(&tests::replacement::rows()));
}
