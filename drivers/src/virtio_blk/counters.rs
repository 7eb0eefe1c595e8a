//! Counts of what went through a device. The identity `submitted = completed + in flight` holds at every snapshot.
//!
//! Owns the numbers; `ring` changes them under its lock, so a snapshot is consistent.

use crate::block::Kind;

/// Requests of one kind that completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounters {
    /// Requests that reached the device.
    pub submitted: u64,
    /// Requests the device is done with, whatever the result.
    pub completed: u64,
    /// Of those, the ones that did not succeed.
    pub errors: u64,
    /// Bytes of the completed requests that succeeded.
    pub bytes: u64,
}

/// A consistent snapshot of a device's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    by_kind: [KindCounters; Kind::ALL.len()],
    /// Requests the device is working on.
    pub in_flight: u32,
    /// The most there ever were at once.
    pub in_flight_peak: u32,
    /// Requests in flight or done whose waiting future was dropped; their buffers are held until the device is done.
    pub orphaned: u32,
    /// Submissions refused for want of a slot or descriptors.
    pub refused_full: u64,
    /// Times the device was told of new requests.
    pub notifications: u64,
    /// Times the device broke the ring protocol; the first resets it for good.
    pub protocol_errors: u64,
}

impl Counters {
    /// The counts of one kind.
    pub fn of(&self, kind: Kind) -> KindCounters {
        self.by_kind[kind.index()]
    }

    /// Requests that ever reached the device.
    pub fn submitted(&self) -> u64 {
        self.by_kind.iter().map(|kind| kind.submitted).sum()
    }

    /// Requests the device is done with.
    pub fn completed(&self) -> u64 {
        self.by_kind.iter().map(|kind| kind.completed).sum()
    }

    /// Requests that did not succeed.
    pub fn errors(&self) -> u64 {
        self.by_kind.iter().map(|kind| kind.errors).sum()
    }

    /// Whether every request is accounted for.
    pub fn balanced(&self) -> bool {
        self.submitted() == self.completed() + u64::from(self.in_flight)
    }

    pub(super) fn began(&mut self, kind: Kind) {
        self.by_kind[kind.index()].submitted += 1;
        self.in_flight += 1;
        self.in_flight_peak = self.in_flight_peak.max(self.in_flight);
    }

    pub(super) fn ended(&mut self, kind: Kind, good_bytes: Option<u64>) {
        let counts = &mut self.by_kind[kind.index()];
        counts.completed += 1;
        match good_bytes {
            Some(bytes) => counts.bytes += bytes,
            None => counts.errors += 1,
        }
        self.in_flight -= 1;
    }
}
