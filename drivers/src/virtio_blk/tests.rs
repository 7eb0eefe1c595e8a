//! The disk driver against the fake device.
