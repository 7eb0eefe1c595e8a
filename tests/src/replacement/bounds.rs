//! What could be reached: Belady's minimum, and the best without foresight.

use std::collections::BTreeSet;

/// Number of pages, by the highest.
pub fn pages(references: &[u32]) -> usize {
    references.iter().max().map_or(0, |last| *last as usize + 1)
}

/// Misses but for first touches when the page goes whose next use is farthest away (Belady 1966). While memory is populated, pages go in
/// the order in which they came: nobody knows then what the program will do.
pub fn minimum(references: &[u32], populated: usize, frames: usize) -> usize {
    let never = references.len();
    let mut next_of_page = vec![never; pages(references)];
    let mut next = vec![never; references.len()];
    for (at, page) in references.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut next_of_page[*page as usize], at);
    }
    let first = populated.saturating_sub(frames) as u32;
    let mut next_use: Vec<Option<usize>> = vec![None; next_of_page.len()];
    let mut order = BTreeSet::new();
    for at in first as usize..populated {
        next_use[references[at] as usize] = Some(next[at]);
        order.insert((next[at], references[at]));
    }
    let mut misses = 0;
    for at in populated..references.len() {
        let page = references[at];
        match next_use[page as usize] {
            Some(known) => drop(order.remove(&(known, page))),
            None => {
                misses += 1;
                if order.len() == frames
                    && let Some((_, gone)) = order.pop_last()
                {
                    next_use[gone as usize] = None;
                }
            }
        }
        next_use[page as usize] = Some(next[at]);
        order.insert((next[at], page));
    }
    misses
}

/// Misses but for first touches when the least popular page goes (A0; Aho, Denning and Ullman 1971). How popular a page is, a much longer
/// run of the same program says.
pub fn by_popularity(references: &[u32], longer: &[u32], populated: usize, frames: usize) -> usize {
    let mut uses = uses(longer);
    uses.resize(uses.len().max(pages(references)), 0);
    missed_by_popularity(references, [&uses, &uses], populated, frames).len()
}

/// How often each page is used.
pub fn uses(references: &[u32]) -> Vec<u32> {
    let mut uses = vec![0; pages(references)];
    references.iter().for_each(|page| uses[*page as usize] += 1);
    uses
}

/// Which references miss when the least popular page goes: how popular each is held to be `before` the run has touched it, and from
/// then on.
pub fn missed_by_popularity(
    references: &[u32],
    [before, after]: [&[u32]; 2],
    populated: usize,
    frames: usize,
) -> Vec<usize> {
    let mut popularity = before.to_vec();
    let mut resident = vec![false; popularity.len()];
    let mut order = BTreeSet::new();
    for page in &references[populated.saturating_sub(frames)..populated] {
        resident[*page as usize] = true;
        order.insert((popularity[*page as usize], *page));
    }
    let mut missed = Vec::new();
    for (nth, page) in references.iter().enumerate().skip(populated) {
        let at = *page as usize;
        let known = std::mem::replace(&mut popularity[at], after[at]);
        if std::mem::replace(&mut resident[at], true) {
            order.remove(&(known, *page));
        } else {
            missed.push(nth);
            if order.len() == frames
                && let Some((_, gone)) = order.pop_first()
            {
                resident[gone as usize] = false;
            }
        }
        order.insert((after[at], *page));
    }
    missed
}
