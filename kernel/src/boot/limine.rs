//! The Limine protocol's way in: real machines, BIOS or UEFI, by a boot loader.
//!
//! Owns: the protocol's requests, the 64-bit entry, translating the responses. Base revision 2: the newest that
//! Limine 8.2 speaks; its direct map lies where ours will, covers the low 4 GiB and all RAM, and its memory map
//! already excludes the image and the modules.
#![expect(unsafe_code, reason = "entry point in assembly; statics that the loader fills in")]

use core::arch::naked_asm;

use limine::BaseRevision;
use limine::memory_map::EntryType;
use limine::request::{
    ExecutableAddressRequest, ExecutableFileRequest, HhdmRequest, MemoryMapRequest, ModuleRequest, RsdpRequest,
};
use x86_64::PhysAddr;

use super::memory::{MemoryMap, PhysRange, RegionKind};
use super::{BootInfo, Loader};
use crate::arch::{direct_map, image};

/// What Limine's direct map covers beside RAM.
const WINDOW: u64 = 4 << 30;

#[used]
static REVISION: BaseRevision = BaseRevision::with_revision(2);
#[used]
static DIRECT_MAP: HhdmRequest = HhdmRequest::new();
#[used]
static MEMORY_MAP: MemoryMapRequest = MemoryMapRequest::new();
#[used]
static ADDRESS: ExecutableAddressRequest = ExecutableAddressRequest::new();
#[used]
static FILE: ExecutableFileRequest = ExecutableFileRequest::new();
#[used]
static MODULES: ModuleRequest = ModuleRequest::new();
#[used]
static RSDP: RsdpRequest = RsdpRequest::new();

/// The ELF entry point: moves to the kernel stack, because Limine's is boot-only memory.
// SAFETY: the name is the linker script's ENTRY and nothing else's.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn limine_start() -> ! {
    naked_asm!(
        "rdtsc",
        "shl rdx, 32",
        "lea rdi, [rax + rdx]",
        "lea rsp, [rip + {stack} + {stack_size}]",
        "xor ebp, ebp",
        "call {entry}",
        "ud2",
        stack = sym crate::arch::stack::KERNEL_STACK,
        stack_size = const size_of::<crate::arch::stack::KernelStack>(),
        entry = sym limine_entry,
    )
}

extern "C" fn limine_entry(entry_tsc: u64) -> ! {
    assert!(REVISION.is_supported(), "this Limine does not speak base revision 2");
    let offset = DIRECT_MAP.get_response().expect("Limine gave no direct map").offset();
    assert_eq!(offset, direct_map::BASE, "Limine's direct map is elsewhere: turn its KASLR off");
    let address = ADDRESS.get_response().expect("Limine gave no image address");
    let image = PhysRange::from_len(address.physical_base(), image::len());
    let module = MODULES.get_response().and_then(|response| response.modules().first().copied());
    let info = BootInfo {
        memory: memory_map(image),
        window: PhysRange::from_len(0, WINDOW),
        command_line: FILE.get_response().map_or(&[], |response| response.file().string().to_bytes()),
        module: module.map(|file| PhysRange::from_len(file.addr() as u64 - direct_map::BASE, file.size())),
        rsdp: RSDP
            .get_response()
            .map(|response| PhysAddr::new_truncate((response.address() as u64).saturating_sub(direct_map::BASE))),
        image,
        entry_tsc,
        loader: Loader::Limine,
    };
    crate::kernel_main(info)
}

fn memory_map(image: PhysRange) -> MemoryMap {
    let response = MEMORY_MAP.get_response().expect("Limine gave no memory map");
    let mut map = MemoryMap::new();
    for entry in response.entries() {
        let range = PhysRange::from_len(entry.base, entry.length);
        let kind = match entry.entry_type {
            EntryType::USABLE => RegionKind::Usable,
            EntryType::BOOTLOADER_RECLAIMABLE => RegionKind::BootOnly,
            EntryType::ACPI_RECLAIMABLE | EntryType::ACPI_NVS => RegionKind::Firmware,
            // Image and modules: the image is told from the modules by its address.
            EntryType::EXECUTABLE_AND_MODULES if range.intersection(image).is_empty() => RegionKind::Module,
            EntryType::EXECUTABLE_AND_MODULES => RegionKind::Kernel,
            _ => continue,
        };
        map.add(range, kind);
    }
    map
}
