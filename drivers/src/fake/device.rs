//! The device model: a virtio-blk device whose every step the test makes.
//!
//! Owns the disk's contents and the device's side of the ring, with its own reading of the specification: it checks the
//! shape of every chain it fetches. It looks at the ring only after a notification, so a lost one shows as a request
//! that never starts.

use super::memory::{device_read, device_write};
use crate::virtio_blk::{BlockTransport, InitError};
use alloc::rc::Rc;
use core::cell::{RefCell, RefMut};
use std::vec;
use std::vec::Vec;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub(crate) const SECTOR: usize = 512;
const QUEUE_SIZE: u16 = 256;

/// Feature bits by the specification's numbers.
pub(crate) mod feature {
    pub(crate) const SEG_MAX: u64 = 1 << 2;
    pub(crate) const RO: u64 = 1 << 5;
    pub(crate) const BLK_SIZE: u64 = 1 << 6;
    pub(crate) const FLUSH: u64 = 1 << 9;
    pub(crate) const DISCARD: u64 = 1 << 13;
    pub(crate) const WRITE_ZEROES: u64 = 1 << 14;
    pub(crate) const INDIRECT: u64 = 1 << 28;
    pub(crate) const EVENT_IDX: u64 = 1 << 29;
    pub(crate) const VERSION_1: u64 = 1 << 32;
    pub(crate) const USUAL: u64 =
        SEG_MAX | BLK_SIZE | FLUSH | DISCARD | WRITE_ZEROES | INDIRECT | EVENT_IDX | VERSION_1;
}

/// How the device ends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It does what was asked.
    Done,
    /// It does nothing and reports this status.
    Status(u8),
    /// It does what was asked, but says that it wrote this many bytes.
    DoneButSays(u32),
    /// It returns the request without a status.
    NoStatus,
}

/// A run of memory from a descriptor.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    len: usize,
}

/// A request that the device has fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) head: u16,
    pub(crate) kind: u32,
    pub(crate) sector: u64,
    pub(crate) descriptors: usize,
    readable: Vec<Run>,
    writable: Vec<Run>,
    status: u64,
}

/// What the device is made of.
pub(crate) struct State {
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) kind: DeviceType,
    pub(crate) queue_size: u32,
    pub(crate) seg_max: u32,
    pub(crate) refuses_features: bool,
    pub(crate) refuses_interrupt: bool,
    /// The device does not answer a reset.
    pub(crate) never_stops: bool,
    pub(crate) notifications: u64,
    pub(crate) disk: Vec<u8>,
    /// Requests fetched and not returned, oldest first.
    pub(crate) pending: Vec<Fetched>,
    /// Ranges of discards and zeroes: sector, count, flags.
    pub(crate) ranges: Vec<(u64, u32, u32)>,
    notified: bool,
    status: DeviceStatus,
    rings: Option<[u64; 3]>,
    next_avail: u16,
    next_used: u16,
}

/// The handle that the test keeps.
#[derive(Clone)]
pub(crate) struct FakeDisk(Rc<RefCell<State>>);

/// The handle that the driver gets.
pub(crate) struct FakeTransport(Rc<RefCell<State>>);

fn read_u16(at: u64) -> u16 {
    let mut bytes = [0; 2];
    device_read(at, &mut bytes);
    u16::from_le_bytes(bytes)
}

impl FakeDisk {
    /// A disk of `sectors`, each filled with bytes that differ from sector to sector.
    pub(crate) fn new(sectors: usize) -> (Self, FakeTransport) {
        let disk = (0..sectors * SECTOR).map(|at| pattern(at as u64)).collect();
        let state = Rc::new(RefCell::new(State {
            offered: feature::USUAL,
            accepted: 0,
            kind: DeviceType::Block,
            queue_size: 256,
            seg_max: 254,
            refuses_features: false,
            refuses_interrupt: false,
            never_stops: false,
            notifications: 0,
            disk,
            pending: Vec::with_capacity(256),
            ranges: Vec::new(),
            notified: false,
            status: DeviceStatus::empty(),
            rings: None,
            next_avail: 0,
            next_used: 0,
        }));
        (Self(state.clone()), FakeTransport(state))
    }

    /// The device's insides.
    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// If it was notified, the device fetches what is available. Says how many requests it has now.
    pub(crate) fn fetch(&self) -> usize {
        let mut state = self.state();
        let Some([table, avail, _]) = state.rings.filter(|_| core::mem::take(&mut state.notified)) else {
            return state.pending.len();
        };
        while state.next_avail != read_u16(avail + 2) {
            let slot = u64::from(state.next_avail % QUEUE_SIZE);
            let head = read_u16(avail + 4 + 2 * slot);
            state.next_avail = state.next_avail.wrapping_add(1);
            let fetched = fetch_chain(table, head);
            assert!(state.pending.iter().all(|other| other.head != head), "head {head} is available twice");
            state.pending.push(fetched);
        }
        state.pending.len()
    }

    /// Ends the fetched request at `index`.
    pub(crate) fn end(&self, index: usize, ending: Ending) {
        let mut state = self.state();
        let request = state.pending.remove(index);
        let (status, mut written) = match ending {
            Ending::Status(status) => (Some(status), 1),
            Ending::NoStatus => (None, 0),
            Ending::Done | Ending::DoneButSays(_) => state.perform(&request),
        };
        if let Ending::DoneButSays(len) = ending {
            written = len;
        }
        if let Some(status) = status {
            device_write(request.status, &[status]);
        }
        state.push_used(u32::from(request.head), written);
    }

    /// Fetches and does everything, oldest first. Says how many requests that was.
    pub(crate) fn work(&self) -> usize {
        let count = self.fetch();
        (0..count).for_each(|_| self.end(0, Ending::Done));
        count
    }

    /// Puts an entry into the used ring that no request has earned.
    pub(crate) fn lie(&self, id: u32, len: u32) {
        self.state().push_used(id, len);
    }

    /// Moves the used index without filling entries.
    pub(crate) fn jump(&self, by: u16) {
        let mut state = self.state();
        state.next_used = state.next_used.wrapping_add(by);
        let index = state.next_used.to_le_bytes();
        let [_, _, used] = state.rings.expect("a ring");
        device_write(used + 2, &index);
    }

    /// Asks the driver not to notify (or to notify again).
    pub(crate) fn suppress_notifications(&self, suppress: bool) {
        let [_, _, used] = self.state().rings.expect("a ring");
        device_write(used, &u16::from(suppress).to_le_bytes());
    }

    /// The device looks at the ring of its own accord.
    pub(crate) fn look(&self) {
        self.state().notified = true;
    }
}

/// What a fresh disk holds at byte `at`.
pub(crate) fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (at / SECTOR as u64) as u8
}

/// Reads a chain and holds it against VirtIO 1.2 §2.7.5 and §5.2.6.
fn fetch_chain(table: u64, head: u16) -> Fetched {
    let (mut readable, mut writable): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
    let mut next = Some(head);
    while let Some(index) = next {
        assert!(index < QUEUE_SIZE, "descriptor {index} does not exist");
        let mut raw = [0; 16];
        device_read(table + 16 * u64::from(index), &mut raw);
        let run = Run {
            start: u64::from_le_bytes(raw[..8].try_into().unwrap()),
            len: u32::from_le_bytes(raw[8..12].try_into().unwrap()) as usize,
        };
        let flags = u16::from_le_bytes([raw[12], raw[13]]);
        assert_eq!(flags & !3, 0, "an indirect or unknown descriptor");
        if flags & 2 != 0 {
            writable.push(run);
        } else {
            assert!(writable.is_empty(), "a readable descriptor after a writable one");
            readable.push(run);
        }
        assert!(readable.len() + writable.len() <= 256, "a circular chain");
        next = (flags & 1 != 0).then(|| u16::from_le_bytes([raw[14], raw[15]]));
    }
    let descriptors = readable.len() + writable.len();
    let header = readable.remove(0);
    assert_eq!(header.len, 16, "the header is 16 bytes");
    let mut raw = [0; 16];
    device_read(header.start, &mut raw);
    let status = writable.pop().expect("a status byte");
    assert_eq!(status.len, 1, "the status is one byte");
    Fetched {
        head,
        kind: u32::from_le_bytes(raw[..4].try_into().unwrap()),
        sector: u64::from_le_bytes(raw[8..].try_into().unwrap()),
        descriptors,
        readable,
        writable,
        status: status.start,
    }
}

impl State {
    fn perform(&mut self, request: &Fetched) -> (Option<u8>, u32) {
        let mut at = request.sector as usize * SECTOR;
        match request.kind {
            0 => {
                let mut written = 0;
                for run in &request.writable {
                    device_write(run.start, &self.disk[at..at + run.len]);
                    at += run.len;
                    written += run.len as u32;
                }
                return (Some(0), written + 1);
            }
            1 => {
                for run in &request.readable {
                    device_read(run.start, &mut self.disk[at..at + run.len]);
                    at += run.len;
                }
            }
            4 => assert!(request.readable.is_empty() && request.writable.is_empty()),
            11 | 13 => self.perform_range(request),
            _ => return (Some(2), 1),
        }
        (Some(0), 1)
    }

    fn perform_range(&mut self, request: &Fetched) {
        let &[run] = request.readable.as_slice() else { panic!("one segment") };
        assert_eq!(run.len, 16);
        let mut raw = [0; 16];
        device_read(run.start, &mut raw);
        let sector = u64::from_le_bytes(raw[..8].try_into().unwrap());
        let count = u32::from_le_bytes(raw[8..12].try_into().unwrap());
        let flags = u32::from_le_bytes(raw[12..].try_into().unwrap());
        self.ranges.push((sector, count, flags));
        let range = sector as usize * SECTOR..(sector as usize + count as usize) * SECTOR;
        self.disk[range].fill(0);
    }

    fn push_used(&mut self, id: u32, len: u32) {
        let [_, _, used] = self.rings.expect("a device that was reset returns nothing");
        let entry = used + 4 + 8 * u64::from(self.next_used % QUEUE_SIZE);
        device_write(entry, &id.to_le_bytes());
        device_write(entry + 4, &len.to_le_bytes());
        self.next_used = self.next_used.wrapping_add(1);
        device_write(used + 2, &self.next_used.to_le_bytes());
    }

    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        config[..8].copy_from_slice(&((self.disk.len() / SECTOR) as u64).to_le_bytes());
        config[12..16].copy_from_slice(&self.seg_max.to_le_bytes());
        config[20..24].copy_from_slice(&4096u32.to_le_bytes());
        config[36..40].copy_from_slice(&64u32.to_le_bytes());
        config[44..48].copy_from_slice(&8u32.to_le_bytes());
        config[48..52].copy_from_slice(&32u32.to_le_bytes());
        config
    }
}

impl BlockTransport for FakeTransport {
    fn bind_interrupt(&mut self) -> Result<(), InitError> {
        if self.0.borrow().refuses_interrupt { Err(InitError::InterruptRefused) } else { Ok(()) }
    }
}

impl Transport for FakeTransport {
    fn device_type(&self) -> DeviceType {
        self.0.borrow().kind
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().offered
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.0.borrow_mut().accepted = driver_features;
    }

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        self.0.borrow().queue_size
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(queue, 0);
        let mut state = self.0.borrow_mut();
        state.notifications += 1;
        state.notified = true;
    }

    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let mut state = self.0.borrow_mut();
        if status.is_empty() {
            if state.never_stops && state.rings.is_some() {
                return;
            }
            // A reset device forgets its rings: it will touch no memory.
            state.pending.clear();
            (state.rings, state.next_avail, state.next_used) = (None, 0, 0);
        }
        state.status = status;
        if state.refuses_features {
            state.status.remove(DeviceStatus::FEATURES_OK);
        }
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        assert_eq!((queue, size), (0, u32::from(QUEUE_SIZE)));
        self.0.borrow_mut().rings = Some([descriptors, driver_area, device_area]);
    }

    fn queue_unset(&mut self, _queue: u16) {}

    fn queue_used(&mut self, _queue: u16) -> bool {
        self.0.borrow().rings.is_some()
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let config = self.0.borrow().config();
        let bytes = config.get(offset..offset + size_of::<T>()).ok_or(Error::ConfigSpaceTooSmall)?;
        T::read_from_bytes(bytes).map_err(|_| Error::InvalidParam)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> virtio_drivers::Result<()> {
        Err(Error::Unsupported)
    }
}

/// `count` bytes of disk pattern from `sector` on.
pub(crate) fn pattern_from(sector: u64, count: usize) -> Vec<u8> {
    let start = sector * SECTOR as u64;
    let mut bytes = vec![0; count];
    for (offset, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(start + offset as u64);
    }
    bytes
}
