//! The replacement policy earns its place: on the same reference strings as others, and as the page of documentation says.

use tests::replacement::{POLICIES, mean, page, rows};

#[test]
fn on_reference_strings_of_many_kinds_generations_miss_less_than_any_other_and_the_page_says_how_much() {
    let rows = rows();
    let means: Vec<f64> = (0..POLICIES.len()).map(|policy| mean(&rows, policy)).collect();
    let (own, others) = means.split_last().expect("five policies");
    assert!(others.iter().all(|other| own < other), "{means:?}");
    let current = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/replacement.md"));
    assert_eq!(page(&rows), current.expect("docs/replacement.md"), "`just policies > docs/replacement.md`");
}
