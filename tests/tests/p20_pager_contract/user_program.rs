//! A program that serves pages (userfaultfd), as the suite of pagers sees it.
//!
//! It has a machine of its own: an area that it is asked about, and a page from which it answers. A get is somebody who touches the
//! pages of a run, which are missing; a put tells the program what the pages are from now on.

use super::{Back, Io, PLACES, Pager};
use mm::addr::VirtAddr;
use mm::fault::Holds;
use mm::platform::{Access, IoFrames};
use mm::sim::{Ram, SimConfig, SimMachine};
use mm::space::{Contents, SpaceId, UserPagerId, Wake};
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use tests::mm::{PAGE, poll_once, ready, space_with};

/// Requests at a time.
const AT_A_TIME: usize = 4;

struct Request {
    op: u16,
    io: Io,
    first: u32,
    frames: IoFrames,
    done: usize,
}

pub struct UserProgram {
    machine: Arc<SimMachine>,
    /// Of the suite: where its frames are.
    ram: Arc<Ram>,
    space: SpaceId,
    area: VirtAddr,
    pager: UserPagerId,
    pages: BTreeMap<u32, [u64; 512]>,
    requests: VecDeque<Request>,
    over: VecDeque<Back>,
}

impl UserProgram {
    pub fn new(ram: &Arc<Ram>) -> Self {
        let machine = SimMachine::new(SimConfig::new(1024, 64));
        // The last page is the one to answer from.
        let (space, area) = space_with(&machine, u64::from(PLACES) + 1);
        let pager = machine.mm().create_user_pager(space).expect("there is room");
        ready(machine.mm().register_user_pager(pager, area, u64::from(PLACES) * PAGE)).expect("anonymous memory");
        let (pages, requests, over) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Self { machine, ram: ram.clone(), space, area, pager, pages, requests, over }
    }

    fn at(&self, place: u32) -> VirtAddr {
        VirtAddr::new(self.area.as_u64() + u64::from(place) * PAGE)
    }

    /// Somebody touches a page. Who waits need not stay: the question does.
    fn touch(&self, page: VirtAddr, access: Access) {
        let mut holds = Holds::default();
        {
            let mut fault = pin!(self.machine.mm().fault(self.space, page, access, 0, &mut holds));
            let _asked = poll_once(fault.as_mut());
        }
        self.machine.mm().release_holds(&mut holds);
    }

    /// The program answers one question, if there is one.
    fn answer(&self) {
        let mm = self.machine.mm();
        let Some(question) = mm.next_question(self.pager) else { return };
        let place = ((question.addr.as_u64() - self.area.as_u64()) / PAGE) as u32;
        let Some(words) = self.pages.get(&place) else {
            return ready(mm.answer(self.pager, question.addr, Contents::Zero, Wake::Now)).expect("it is missing");
        };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let source = self.at(PLACES);
        while mm.try_copy_out(self.space, source, &bytes).is_none() {
            self.touch(source, Access::Write);
        }
        let contents = Contents::Memory(self.space, source);
        ready(mm.answer(self.pager, question.addr, contents, Wake::Now)).expect("it is missing");
    }

    /// Takes one page of the first request further; whether that is over then.
    fn advance(&mut self) -> bool {
        let Some(mut request) = self.requests.pop_front() else { return false };
        let place = request.first + request.done as u32;
        let frame = request.frames[request.done].pfn();
        match request.io {
            Io::Put => {
                let words = self.ram.with(frame, |words| *words);
                self.pages.insert(place, words);
                ready(self.machine.mm().discard(self.space, self.at(place), PAGE)).expect("it is mapped");
                request.done += 1;
            }
            Io::Get => {
                let mut bytes = [0; PAGE as usize];
                if self.machine.mm().try_copy_in(self.space, self.at(place), &mut bytes).is_some() {
                    let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes"));
                    self.ram.with(frame, |words| words.iter_mut().enumerate().for_each(|(at, w)| *w = word(at)));
                    // Missing again, so that the next one asks.
                    ready(self.machine.mm().discard(self.space, self.at(place), PAGE)).expect("it is mapped");
                    request.done += 1;
                } else {
                    self.touch(self.at(place), Access::Read);
                }
            }
        }
        let is_over = request.done == request.frames.len();
        if is_over {
            self.over.push_back(Back { op: request.op, frames: request.frames, good: true });
        } else {
            self.requests.push_back(request);
        }
        is_over
    }
}

impl Pager for UserProgram {
    fn begin(&mut self, op: u16, io: Io, first: u32, frames: IoFrames) -> Result<(), IoFrames> {
        if self.requests.len() + self.over.len() >= AT_A_TIME {
            return Err(frames);
        }
        self.requests.push_back(Request { op, io, first, frames, done: 0 });
        Ok(())
    }
    fn back(&mut self) -> Option<Back> {
        self.over.pop_front()
    }
    fn step(&mut self) {
        self.answer();
        for _ in 0..16 {
            self.advance();
            self.answer();
        }
        if self.requests.is_empty() {
            self.machine.check();
        }
    }
}
