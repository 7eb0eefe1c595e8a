//! The kernel's list of a file's extents, on the host, against a plain map of pages.

extern crate alloc;

#[allow(dead_code)]
#[path = "../../kernel/src/fs/extents.rs"]
mod extents;

use std::collections::BTreeMap;

use extents::{Extent, Extents, FilePage, Run};
use proptest::prelude::*;

/// Pages the operations play on.
const PAGES: u64 = 48;

#[derive(Clone, Debug)]
enum Step {
    Add(u64, u64, u64),
    Remove(u64, u64),
    Cut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..PAGES, 0..200_u64, 1..9_u64).prop_map(|(page, block, pages)| Step::Add(page, block, pages)),
        2 => (0..PAGES, 1..9_u64).prop_map(|(page, pages)| Step::Remove(page, pages)),
        1 => (0..PAGES).prop_map(Step::Cut),
    ]
}

fn check(extents: &Extents, model: &BTreeMap<u64, u64>) {
    for page in 0..PAGES + 10 {
        let run = extents.run(FilePage(page), 5);
        assert!((1..=5).contains(&run.pages()), "{run:?} at {page}");
        for inside in 0..run.pages() {
            let expected = model.get(&(page + inside)).copied();
            let found = match run {
                Run::Blocks { first, .. } => Some(first + inside),
                Run::Hole { .. } => None,
            };
            assert_eq!(found, expected, "page {}", page + inside);
        }
        let all = (page..page + 3).all(|page| model.contains_key(&page));
        assert_eq!(extents.covers(FilePage(page), 3), all, "three pages from {page}");
    }
}

proptest! {
    #[test]
    fn extents_are_what_a_map_of_pages_says(steps in prop::collection::vec(step(), 1..60)) {
        let (mut extents, mut model) = (Extents::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Add(page, block, pages) => {
                    extents.add(Extent { page: FilePage(page), block, pages });
                    model.extend((0..pages).map(|inside| (page + inside, block + inside)));
                }
                Step::Remove(page, pages) => {
                    extents.remove(FilePage(page), pages);
                    model.retain(|at, _| *at < page || *at >= page + pages);
                }
                Step::Cut(page) => {
                    extents.cut(FilePage(page));
                    model.retain(|at, _| *at < page);
                }
            }
            check(&extents, &model);
        }
    }
}

#[test]
fn a_file_written_page_by_page_is_one_extent() {
    let mut extents = Extents::default();
    for page in [0, 2, 1, 4, 3] {
        extents.add(Extent { page: FilePage(page), block: 100 + page, pages: 1 });
    }
    assert_eq!(extents.len(), 1);
    assert_eq!(extents.run(FilePage(1), 64), Run::Blocks { first: 101, pages: 4 });
}
