//! The table of features: complete, in order, and the same in the documentation.

use tests::features::{page, rows, rows_of_test};
use tests::source;

#[test]
fn the_rows_are_complete_and_in_order() {
    let expected = [("P", 23), ("X", 20), ("M", 14), ("A", 12), ("N", 13), ("G", 5), ("E", 10)];
    let numbered = expected.iter().flat_map(|(group, last)| (1..=*last).map(move |number| format!("{group}{number}")));
    let faults = (1..=9).chain([13, 14]).map(|number| format!("F{number}"));
    let expected: Vec<_> = numbered.chain(["U5", "U7", "U9"].map(str::to_owned)).chain(faults).collect();
    let found: Vec<_> = rows().map(|row| row.id.to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn rows_that_others_show_exist() {
    for row in rows() {
        for id in row.shown_by() {
            assert!(rows().any(|other| other.id == id), "{} is shown by {id}", row.id);
        }
    }
}

#[test]
fn a_test_shows_the_rows_that_its_name_begins_with() {
    let shown = |path: &str| rows_of_test(path).map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(shown("p6_submaps_limit_allocations"), ["P6"]);
    assert_eq!(shown("space::tests::x20_p23_nothing_is_lost"), ["X20", "P23"]);
    assert_eq!(shown("pages_leave_in_clusters_p6"), Vec::<&str>::new());
    assert_eq!(shown("p60_is_no_row"), Vec::<&str>::new());
}

#[test]
fn the_page_of_the_documentation_is_up_to_date() {
    let found = std::fs::read_to_string(source::root().join("docs/features.md")).unwrap_or_default();
    assert!(found == page(), "docs/features.md is stale: just features --page > docs/features.md");
}
