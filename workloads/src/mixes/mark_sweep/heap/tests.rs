//! The heap by itself: what a collection keeps and frees, against a model, and what is noticed when memory is wrong.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::mapping::{Charge, Mapping};
use crate::rng::Rng;

fn heap(pages: u64) -> Heap {
    Heap::new(Words::new(Mapping::anonymous(pages, Charge::Committed).expect("maps")), 9)
}

fn allocate(heap: &mut Heap, words: usize, links: usize) -> Object {
    heap.allocate(words, links).expect("right").expect("room")
}

/// Sum of all blocks; they follow each other without gaps.
fn free_words(heap: &Heap) -> usize {
    let (mut address, mut free) = (START, 0);
    while address < heap.words.len() {
        let (block, header) = heap.object_at(address).expect("right");
        free += if header & ALLOCATED == 0 { block.words } else { 0 };
        address += block.words;
    }
    free
}

#[test]
fn what_cannot_be_reached_goes_and_the_rest_stays() {
    let mut heap = heap(4);
    let everything = free_words(&heap);
    let [a, b, c, d] = [8, 100, 9, 700].map(|words| allocate(&mut heap, words, 2));
    // A cycle that is reached, and one object that only reaches others.
    heap.set(&a, 0, b.link());
    heap.set(&b, 1, a.link());
    heap.set(&c, 0, a.link());
    let collected = heap.collect(&[Link::NONE, b.link()]).expect("right");
    assert_eq!(collected, Collected { survivors: 2, freed: 2 });
    assert_eq!(free_words(&heap), everything - 108);
    assert!(heap.open(d.link()).is_err() && heap.open(c.link()).is_err(), "links to freed objects");
    assert_eq!(heap.get(&heap.open(a.link()).expect("lives"), 0), b.link());
    assert_eq!(heap.collect(&[]).expect("right"), Collected { survivors: 0, freed: 2 });
    assert_eq!(free_words(&heap), everything);
    // Free neighbours were joined: the whole heap is one block again.
    assert_eq!(allocate(&mut heap, everything, 0).words(), everything);
    assert!(heap.allocate(8, 0).expect("right").is_none(), "no room");
}

/// Random graphs against a model that knows who links to whom.
#[test]
fn collections_keep_exactly_what_a_model_can_reach() {
    for seed in 1..20 {
        let mut rng = Rng::new(seed);
        let mut heap = heap(32);
        let mut objects: Vec<Object> = Vec::new();
        let mut links: HashMap<u64, Vec<u64>> = HashMap::new();
        for _ in 0..12 {
            while let Some(object) = heap.allocate(8 + rng.below(200) as usize, 3).expect("right") {
                links.insert(object.link().0, Vec::new());
                objects.push(object);
                if rng.percent(1) {
                    break;
                }
            }
            for object in &objects {
                links.get_mut(&object.link().0).expect("known").clear();
                for index in 0..object.links() {
                    let to = &objects[rng.below(objects.len() as u64) as usize];
                    let to = if rng.percent(70) { Link::NONE } else { to.link() };
                    heap.set(object, index, to);
                    links.get_mut(&object.link().0).expect("known").push(to.0);
                }
            }
            let roots: Vec<Link> = objects.iter().filter(|_| rng.percent(10)).map(Object::link).collect();
            let mut reached: HashSet<u64> = HashSet::new();
            let mut next: Vec<u64> = roots.iter().map(|root| root.0).collect();
            while let Some(link) = next.pop() {
                if link != 0 && reached.insert(link) {
                    next.extend(&links[&link]);
                }
            }
            let collected = heap.collect(&roots).expect("right");
            assert_eq!(collected.survivors, reached.len() as u64, "seed {seed}");
            objects.retain(|object| reached.contains(&object.link().0));
            for object in &objects {
                heap.check(&heap.open(object.link()).expect("lives")).expect("right");
            }
            assert_eq!(heap.check_all().expect("right").0, objects.len() as u64, "seed {seed}");
        }
    }
}

#[test]
fn every_flipped_bit_of_an_object_is_noticed() {
    let mut heap = heap(1);
    let size = heap.words() - START;
    let object = allocate(&mut heap, size, 1);
    heap.set(&object, 0, object.link());
    for index in START..heap.words() {
        for bit in [0, 5, 31, 32, 39, 40, 63] {
            let right = heap.words.get(index);
            heap.words.set(index, right ^ 1 << bit);
            let seen = heap.collect(&[object.link()]).and_then(|_| heap.check_all());
            assert!(seen.is_err() || index == START + LINKS, "word {index} bit {bit}");
            // A link that leads elsewhere is noticed as soon as it is followed.
            assert!(heap.open(Link(heap.words.get(START + LINKS))).is_err() || index != START + LINKS);
            heap.words.set(START, ALLOCATED | 1 << 32 | size as u64);
            heap.words.set(index, if index == START { heap.words.get(START) } else { right });
            heap.objects = 1;
        }
    }
}
