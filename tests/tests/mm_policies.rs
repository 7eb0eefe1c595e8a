//! The replacement policy earns its place: on the same reference strings as others, and as the page of documentation says.

use std::sync::LazyLock;
use tests::replacement::{POLICIES, mean, page, parts, rows, sizes};

static PARTS: LazyLock<Vec<parts::Misses>> = LazyLock::new(parts::all);

/// So what is left to A0 are hot pages that went before they were used.
#[test]
fn a_hot_page_is_not_missed_once_it_was_used_and_cold_ones_as_often_as_by_who_knows_how_popular_they_are() {
    let [best, learns, _, own] = parts::mean(&PARTS);
    assert_eq!(own.hot_again, 0.0);
    assert!((own.cold / best.cold - 1.0).abs() < 0.01, "{} cold pages, A0 {}", own.cold, best.cold);
    assert!(own.hot < 1.04 * learns.hot, "{} hot pages, {} by who learns at first touch", own.hot, learns.hot);
}

#[test]
fn on_reference_strings_of_many_kinds_generations_miss_less_than_any_other_and_the_page_says_how_much() {
    let rows = rows();
    let means: Vec<f64> = (0..POLICIES.len()).map(|policy| mean(&rows, policy)).collect();
    let (own, others) = means.split_last().expect("five policies");
    assert!(others.iter().all(|other| own < other), "{means:?}");
    let sizes = sizes::all();
    for means in &sizes {
        let (own, others) = means.split_last().expect("three policies");
        assert!(others.iter().all(|other| own < other), "{sizes:?}");
    }
    let current = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/replacement.md"));
    assert_eq!(
        page(&rows, &PARTS, &sizes),
        current.expect("docs/replacement.md"),
        "`just policies > docs/replacement.md`"
    );
}
