//! Random requests, endings, orders, drops and interrupts against a plain model of the disk. A failing seed is printed.

use super::*;
use core::future::Future;
use std::boxed::Box;
use std::collections::BTreeMap;

const FRAMES_ON_DISK: u64 = 64;

/// xorshift64*: small, seeded, good enough to choose.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

type Task<'a> = Pin<Box<dyn Future<Output = Result<Completion<Frames>, Refused<Frames>>> + 'a>>;

struct World<'a> {
    device: &'a FakeDisk,
    disk: &'a Disk,
    dice: Dice,
    tasks: BTreeMap<u64, Task<'a>>,
    /// Frames of the disk that a request in flight covers: no second one is sent there, as the order would be open.
    busy: BTreeMap<u64, (u64, u64)>,
    /// Requests whose future was dropped.
    abandoned: Vec<u64>,
    /// What each frame of the disk must hold, by its first byte; None after a failed or abandoned write.
    model: Vec<Option<u8>>,
    cookie: u64,
}

impl<'a> World<'a> {
    fn step(&mut self, waker: &Waker) {
        match self.dice.below(10) {
            0..=3 => self.submit(waker),
            4..=6 => self.device_step(),
            7 => self.disk.on_interrupt(),
            8 => self.poll_all(waker),
            _ => self.drop_one(),
        }
    }

    fn submit(&mut self, waker: &Waker) {
        let count = 1 + self.dice.below(8);
        let first = self.dice.below(FRAMES_ON_DISK - count);
        if self.busy.values().any(|&(start, len)| first < start + len && start < first + count) {
            return;
        }
        self.cookie += 1;
        let kind = if self.dice.below(2) == 0 { Kind::Read } else { Kind::Write };
        let frames =
            if self.dice.below(3) == 0 { Frames::adjacent(count as usize) } else { Frames::scattered(count as usize) };
        if kind == Kind::Write {
            frames.fill(&std::vec![self.cookie as u8; frames.len()]);
        }
        let request = request(self.cookie, kind, first * 8, count as u32 * 8, frames);
        self.busy.insert(self.cookie, (first, count));
        if self.dice.below(2) == 0 {
            self.disk.try_submit(request).expect("8 areas of 8 frames fit into the ring");
        } else {
            let mut task: Task<'a> = Box::pin(self.disk.submit(request));
            assert!(poll(task.as_mut(), waker).is_pending());
            self.tasks.insert(self.cookie, task);
        }
    }

    fn device_step(&mut self) {
        let pending = self.device.fetch();
        if pending > 0 {
            let index = self.dice.below(pending as u64) as usize;
            let ending = if self.dice.below(8) == 0 { Ending::Status(1) } else { Ending::Done };
            self.device.end(index, ending);
        }
    }

    fn drop_one(&mut self) {
        let Some(&cookie) = self.tasks.keys().next() else { return };
        drop(self.tasks.remove(&cookie));
        let (first, count) = self.busy[&cookie];
        // Whether it is written is not known any more, and the area stays closed while the device may work on it.
        self.abandoned.push(cookie);
        self.model[first as usize..(first + count) as usize].fill(None);
    }

    fn poll_all(&mut self, waker: &Waker) {
        while let Poll::Ready(done) = poll_stream(self.disk, waker) {
            self.check(done);
        }
        for cookie in self.tasks.keys().copied().collect::<Vec<_>>() {
            if let Poll::Ready(done) = poll(self.tasks.get_mut(&cookie).unwrap().as_mut(), waker) {
                self.tasks.remove(&cookie);
                self.check(done.expect("a good request"));
            }
        }
    }

    fn check(&mut self, done: Completion<Frames>) {
        let cookie = done.request.cookie.0;
        let (first, count) = self.busy.remove(&cookie).expect("each request ends once");
        let bytes = done.request.buffers.bytes();
        for (frame, page) in (first..first + count).zip(bytes.chunks(4096)) {
            let model = &mut self.model[frame as usize];
            match (done.request.kind, done.result) {
                (Kind::Write, Ok(())) => *model = Some(cookie as u8),
                (Kind::Read, Ok(())) => {
                    if let Some(byte) = *model {
                        assert!(page.iter().all(|&got| got == byte), "request {cookie}, frame {frame}");
                    }
                }
                // The fake does nothing when it reports an error.
                (_, Err(error)) => assert_eq!(error, BlockError::Io),
                (kind, Ok(())) => panic!("{kind:?} was never sent"),
            }
        }
    }
}

fn run(seed: u64) {
    let (device, disk) = disk(FRAMES_ON_DISK as usize * 8);
    let (_bell, waker) = Bell::new();
    let mut world = World {
        device: &device,
        disk: &disk,
        dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        tasks: BTreeMap::new(),
        busy: BTreeMap::new(),
        abandoned: Vec::new(),
        model: std::vec![None; FRAMES_ON_DISK as usize],
        cookie: 0,
    };
    for _ in 0..2_000 {
        world.step(&waker);
        let counters = disk.counters();
        assert!(counters.balanced(), "{counters:?}");
        if counters.orphaned == 0 {
            // Nothing of the dropped futures is left with the device: their areas may be used again.
            let abandoned = core::mem::take(&mut world.abandoned);
            world.busy.retain(|cookie, _| !abandoned.contains(cookie));
        }
    }
    while device.work() > 0 {
        world.poll_all(&waker);
    }
    world.poll_all(&waker);
    assert!(world.tasks.is_empty());
    drop(world);
    assert_quiet(&disk);
}

#[test]
fn random_use_loses_no_request_no_frame_and_no_byte() {
    for seed in 1..=40 {
        std::println!("seed {seed}");
        run(seed);
    }
}
