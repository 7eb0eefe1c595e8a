//! Prints docs/replacement.md: the replacement policies on the same reference strings.

use tests::replacement;

fn main() {
    print!("{}", replacement::page(&replacement::rows(), &replacement::parts::all(), &replacement::sizes::all()));
}
