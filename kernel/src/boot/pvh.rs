//! The PVH way in: `qemu -kernel`, no firmware image, no boot loader.
//!
//! Owns: the 32-bit entry, the boot page tables and boot GDT, reading `hvm_start_info`.
//! The boot page tables are assembled, not built: the low GiB at 0, at the direct map and at the image's
//! address, all by the same 2 MiB entries, because not every CPU model has 1 GiB pages. They and everything
//! the loader left below 1 MiB are boot-only memory.
//! Reference: Xen's `public/arch-x86/hvm/start_info.h`; the CPU state at entry is in Xen's `docs/misc/pvh.pandoc`.
#![expect(unsafe_code, reason = "entry point in assembly; reads the loader's structures in physical memory")]

use core::arch::global_asm;

use x86_64::PhysAddr;

use super::memory::{MemoryMap, PAGE, PhysRange, RegionKind};
use super::{BootInfo, Loader};
use crate::arch::{direct_map, image};

/// What the boot page tables map.
const WINDOW: u64 = 1 << 30;
/// Legacy memory: firmware data, the loader's structures, the VGA hole.
const LOW_MEMORY_END: u64 = 1 << 20;

const MAGIC: u32 = 0x336e_c578;

// The boot GDT's descriptors have their accessed bits set, so that loading a selector never writes to it.
// EFER: SCE|LME|NXE; CR0: PG|WP|PE; CR4: PAE. rdtsc comes first: it is the start of the boot clock.
global_asm!(
    r#"
    .set BASE, 0xffffffff80000000

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_start - BASE

    .section .boot_only, "aw", @progbits
    .balign 4096
boot_pml4:
    .quad boot_pdpt_low - BASE + 0x003
    .fill 255, 8, 0
    .quad boot_pdpt_low - BASE + 0x003
    .fill 254, 8, 0
    .quad boot_pdpt_high - BASE + 0x003
boot_pdpt_low:
    .quad boot_pd - BASE + 0x003
    .fill 511, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd - BASE + 0x003
    .quad 0
boot_pd:
    .set page, 0
    .rept 512
    .quad page + 0x083
    .set page, page + 0x200000
    .endr
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .quad boot_gdt - BASE

    .section .text.boot, "ax", @progbits
    .code32
pvh_start:
    cli
    cld
    rdtsc
    movl %eax, %esi
    movl %edx, %ebp
    movl $(boot_pml4 - BASE), %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax
    movl %eax, %cr0
    lgdt (boot_gdt_pointer - BASE)
    ljmp $0x08, $(pvh_long_mode - BASE)
    .code64
pvh_long_mode:
    movabsq $pvh_high, %rax
    jmpq *%rax
pvh_high:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movabsq ${stack}, %rsp
    addq ${stack_size}, %rsp
    movl %ebx, %edi
    movl %esi, %esi
    shlq $32, %rbp
    orq %rbp, %rsi
    xorl %ebp, %ebp
    call {entry}
    ud2
"#,
    stack = sym crate::arch::stack::KERNEL_STACK,
    stack_size = const size_of::<crate::arch::stack::KernelStack>(),
    entry = sym pvh_entry,
    options(att_syntax)
);

/// `struct hvm_start_info`, version 1.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[repr(C)]
struct Module {
    start: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

/// `struct hvm_memmap_table_entry`; the kinds are those of the BIOS call E820.
#[repr(C)]
struct MapEntry {
    start: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

/// The first Rust code: on the kernel stack and the boot page tables.
extern "C" fn pvh_entry(start_info: u64, entry_tsc: u64) -> ! {
    let window = PhysRange::from_len(0, WINDOW);
    // SAFETY: PVH passes the address of its start info in %ebx; the magic number below is the check that it did.
    let start: &StartInfo = unsafe { &*structure(start_info) };
    assert_eq!(start.magic, MAGIC, "not entered by a PVH loader");
    assert!(start.version >= 1, "this PVH loader gives no memory map");
    let image = PhysRange::from_len(image::LINKED_PHYSICAL, image::len());
    // SAFETY: the loader filled these tables; their addresses and lengths come from it, below the window's end.
    let (entries, modules) = unsafe {
        (
            core::slice::from_raw_parts(structure::<MapEntry>(start.memory_map), start.memory_map_entries as usize),
            core::slice::from_raw_parts(structure::<Module>(start.modules), start.module_count as usize),
        )
    };
    let module = modules.first().map(|module| PhysRange::from_len(module.start, module.len));
    let info = BootInfo {
        memory: memory_map(entries, image, module),
        window,
        command_line: command_line(start.command_line),
        module,
        rsdp: (start.rsdp != 0).then(|| PhysAddr::new_truncate(start.rsdp)),
        image,
        entry_tsc,
        loader: Loader::Pvh,
    };
    crate::kernel_main(info)
}

/// The loader's map does not exclude the image, the module or its own structures: this one does. Low memory is
/// RAM like any other here (no firmware runs again under PVH), but the loader's structures lie in it.
fn memory_map(entries: &[MapEntry], image: PhysRange, module: Option<PhysRange>) -> MemoryMap {
    let mut map = MemoryMap::new();
    for entry in entries {
        let range = PhysRange::from_len(entry.start, entry.len);
        match entry.kind {
            1 => map.add(range, RegionKind::Usable),
            3 | 4 => map.add(range, RegionKind::Firmware),
            _ => {}
        }
    }
    map.carve(PhysRange::from_len(0, LOW_MEMORY_END), RegionKind::BootOnly);
    map.carve(image::boot_only(image), RegionKind::BootOnly);
    if let Some(module) = module {
        map.carve(module, RegionKind::Module);
    }
    let boot_only = image::boot_only(image);
    map.carve(PhysRange::new(image.start, boot_only.start), RegionKind::Kernel);
    map.carve(PhysRange::new(boot_only.end, image.end), RegionKind::Kernel);
    map.carve(PhysRange::from_len(0, PAGE), RegionKind::Kernel);
    map
}

fn command_line(start: u64) -> &'static [u8] {
    if start == 0 {
        return &[];
    }
    // SAFETY: the loader's command line is zero-terminated and lies in boot-only memory inside the window.
    unsafe { core::ffi::CStr::from_ptr(structure(start)).to_bytes() }
}

/// Where a structure of the loader's can be read.
fn structure<T>(address: u64) -> *const T {
    assert!(address < WINDOW, "the loader's structures lie above the boot page tables' window");
    direct_map::pointer(PhysAddr::new_truncate(address)).cast()
}
