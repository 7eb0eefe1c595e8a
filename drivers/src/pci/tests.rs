//! Configuration space from a table: enumeration through a bridge, capabilities, MSI-X.

use super::*;
use crate::interrupt::{ApicId, Vector};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Configuration space as a map; what is not in it reads as all ones.
#[derive(Default)]
struct Table(RefCell<BTreeMap<(u8, u8, u8, u8), u32>>);

impl Table {
    fn with(self, at: (u8, u8, u8), words: &[(u8, u32)]) -> Self {
        let mut map = self.0.borrow_mut();
        // Functions that exist read as zero where nothing is set.
        for offset in (0..=0xfcu8).step_by(4) {
            map.insert((at.0, at.1, at.2, offset), 0);
        }
        for &(offset, word) in words {
            map.insert((at.0, at.1, at.2, offset), word);
        }
        drop(map);
        self
    }
}

impl ConfigSpace for Table {
    fn read(&self, at: DeviceFunction, offset: u8) -> u32 {
        let key = (at.bus, at.device, at.function, offset);
        self.0.borrow().get(&key).copied().unwrap_or(u32::MAX)
    }

    fn write(&self, at: DeviceFunction, offset: u8, value: u32) {
        self.0.borrow_mut().insert((at.bus, at.device, at.function, offset), value);
    }
}

const CAPABILITIES: (u8, u32) = (4, 1 << 20);

fn function(bus: u8, device: u8) -> DeviceFunction {
    DeviceFunction { bus, device, function: 0 }
}

#[test]
fn disks_behind_a_bridge_are_found_after_those_on_bus_0() {
    let pci = Pci::new(
        Table::default()
            .with((0, 0, 0), &[(0, 0x29c0_8086)])
            .with((0, 2, 0), &[(0, 0x000c_1b36), (0xc, 1 << 16), (0x18, 0x0003_0300)])
            .with((0, 4, 0), &[(0, 0x1001_1af4)])
            .with((0, 5, 0), &[(0, 0x1000_1af4)])
            .with((3, 0, 0), &[(0, 0x1042_1af4)]),
    );
    let disks: Vec<_> = pci.virtio_disks().into_iter().collect();
    assert_eq!(disks, [function(0, 4), function(3, 0)]);
}

#[test]
fn functions_above_0_count_only_where_function_0_says_so() {
    let disk = (0, 0x1001_1af4);
    let pci = Pci::new(
        Table::default()
            .with((0, 1, 0), &[(0, 0x2918_8086), (0xc, 0x80 << 16)])
            .with((0, 1, 2), &[disk])
            .with((0, 2, 0), &[(0, 0x2918_8086)])
            .with((0, 2, 1), &[disk]),
    );
    let disks: Vec<_> = pci.virtio_disks().into_iter().collect();
    assert_eq!(disks, [DeviceFunction { function: 2, ..function(0, 1) }]);
}

#[test]
fn msix_is_found_behind_other_capabilities() {
    let pci = Pci::new(Table::default().with(
        (0, 4, 0),
        &[(0, 0x1042_1af4), CAPABILITIES, (0x34, 0x40), (0x40, 0x0110_5009), (0x50, 0x0003_0011), (0x54, 0x0800 | 4)],
    ));
    let cap = msix::find(&pci, function(0, 4)).unwrap();
    assert_eq!(cap, msix::Capability { offset: 0x50, bar: 4, table: 0x800, entries: 4 });
    assert_eq!(msix::find(&pci, function(0, 5)), None);
}

#[test]
fn a_circular_capability_list_ends() {
    let pci = Pci::new(
        Table::default().with((0, 4, 0), &[(0, 0x1042_1af4), CAPABILITIES, (0x34, 0x40), (0x40, 0x0000_4009)]),
    );
    assert_eq!(msix::find(&pci, function(0, 4)), None);
}

#[test]
fn an_entry_aims_at_one_cpu_unmasked() {
    let route = Route { apic: ApicId(3), vector: Vector(0x41) };
    assert_eq!(msix::entry(route), [0xfee0_3000, 0, 0x41, 0]);
}

#[test]
fn the_configuration_address_has_its_enable_bit_and_fields_in_place() {
    let at = DeviceFunction { bus: 1, device: 2, function: 3 };
    assert_eq!(port_address(at, 0x36), 0x8001_1334);
}

#[test]
fn a_capability_at_the_end_of_configuration_space_is_not_followed_beyond_it() {
    // The list begins at 0xfc with what says that it is MSI-X: its table would lie past the last byte.
    let words = [(0, 0x1042_1af4), CAPABILITIES, (0x34, 0xfc), (0xfc, 0x0001_0011)];
    let pci = Pci::new(Table::default().with((0, 1, 0), &words));
    assert_eq!(msix::find(&pci, function(0, 1)), None);
}
