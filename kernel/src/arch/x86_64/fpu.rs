//! FPU, SSE and AVX state of user threads.
//!
//! Owns: what is enabled (XCR0), the save area's format and size, save and load. XSAVE when the CPU has it, because ring 3
//! may then use AVX, which FXSAVE does not save; FXSAVE otherwise (SDM vol. 1, 13). Kernel code is soft-float and leaves
//! these registers as they are (`whole_page` borrows one), so `user` saves them only when another thread is entered.
#![expect(unsafe_code, reason = "save and restore instructions; the area's size is known at run time only")]

use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;

use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

use super::cpu;
use crate::sync::Once;

/// Legacy area and XSAVE header.
const XSAVE_MINIMUM: usize = 576;
const FXSAVE_SIZE: usize = 512;
/// XSAVE wants 64.
const ALIGN: usize = 64;
/// x87 control word after FNINIT, at byte 0 of the area.
const FCW_DEFAULT: u16 = 0x37f;
/// All SIMD exceptions masked, at byte 24.
const MXCSR_DEFAULT: u32 = 0x1f80;
const MXCSR_OFFSET: usize = 24;

#[derive(Clone, Copy, Debug)]
enum Method {
    Fxsave,
    Xsave,
    Xsaveopt,
}

#[derive(Clone, Copy, Debug)]
struct Format {
    method: Method,
    size: usize,
    /// XCR0, or 0 with FXSAVE.
    components: u64,
}

static FORMAT: Once<Format> = Once::new();

/// Chooses the format and enables its components. CR4.OSXSAVE and OSFXSR are set already.
pub fn init() {
    let features = cpu::features();
    let format = if features.xsave {
        let method = if features.xsaveopt { Method::Xsaveopt } else { Method::Xsave };
        let (size, components) = enable_components();
        Format { method, size, components }
    } else {
        Format { method: Method::Fxsave, size: FXSAVE_SIZE, components: 0 }
    };
    FORMAT.call_once(|| format);
}

/// Enables x87, SSE, and of AVX and AVX-512 what is there; returns the size of the area for these, and which.
fn enable_components() -> (usize, u64) {
    let mut components = XCr0Flags::X87 | XCr0Flags::SSE;
    if let Some(found) = raw_cpuid::CpuId::new().get_extended_state_info()
        && found.xcr0_supports_avx_256()
    {
        components |= XCr0Flags::AVX;
        if found.xcr0_supports_avx512_opmask()
            && found.xcr0_supports_avx512_zmm_hi256()
            && found.xcr0_supports_avx512_zmm_hi16()
        {
            components |= XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
        }
    }
    // SAFETY: only supported components, in the combinations that the CPU accepts (AVX with SSE, AVX-512 as a whole).
    unsafe { XCr0::write(components) };
    // Only now CPUID gives the size for what is enabled.
    let size = raw_cpuid::CpuId::new().get_extended_state_info();
    let size = size.map_or(0, |found| found.xsave_area_size_enabled_features() as usize);
    (size.max(XSAVE_MINIMUM), components.bits())
}

fn format() -> Format {
    *FORMAT.get().expect("the FPU is set up at boot")
}

/// XCR0: the components that ring 3 may use and XSAVE saves; 0 where FXSAVE is used.
pub fn components() -> u64 {
    format().components
}

/// Clears what makes a load fault (SDM vol. 1, 13.8.1 and 10.5.1.1): reserved bits of MXCSR, components that are not enabled,
/// the compaction bit and the header's reserved bytes.
fn sanitise(image: &mut [u8]) {
    const MXCSR_BITS: u32 = 0xffff;
    const HEADER: core::ops::Range<usize> = FXSAVE_SIZE..XSAVE_MINIMUM;
    let mut mxcsr = [0; 4];
    mxcsr.copy_from_slice(&image[MXCSR_OFFSET..MXCSR_OFFSET + 4]);
    let mxcsr = u32::from_le_bytes(mxcsr) & MXCSR_BITS;
    image[MXCSR_OFFSET..MXCSR_OFFSET + 4].copy_from_slice(&mxcsr.to_le_bytes());
    if let Some(header) = image.get_mut(HEADER) {
        let mut present = [0; 8];
        present.copy_from_slice(&header[..8]);
        let present = u64::from_le_bytes(present) & components();
        header.fill(0);
        header[..8].copy_from_slice(&present.to_le_bytes());
    }
}

/// A thread's state while it is not in the registers.
pub struct FpuState {
    area: NonNull<u8>,
}

// SAFETY: an owned allocation, accessed only through methods.
unsafe impl Send for FpuState {}

impl FpuState {
    fn layout() -> Layout {
        Layout::from_size_align(format().size, ALIGN).expect("sizes are those of CPUID")
    }

    /// The state a program starts with.
    pub fn new() -> Self {
        let layout = Self::layout();
        // SAFETY: the size is not zero.
        let area = unsafe { alloc_zeroed(layout) };
        let Some(area) = NonNull::new(area) else { handle_alloc_error(layout) };
        // With XSAVE the zeroed header means "initial values" for all but MXCSR.
        // SAFETY: both fields are inside the 512 bytes of the legacy area, aligned.
        unsafe {
            area.cast::<u16>().write(FCW_DEFAULT);
            area.byte_add(MXCSR_OFFSET).cast::<u32>().write(MXCSR_DEFAULT);
        }
        Self { area }
    }

    /// A copy; the registers are not looked at.
    pub fn duplicate(&self) -> Self {
        let copy = Self::new();
        // SAFETY: two allocations of the same size.
        unsafe { copy.area.copy_from_nonoverlapping(self.area, format().size) };
        copy
    }

    /// The saved bytes: what a signal frame shows of them.
    pub fn image(&self) -> &[u8] {
        // SAFETY: allocated zeroed with this size in `new`, so initialised; lent out as long as `self` is borrowed.
        unsafe { core::slice::from_raw_parts(self.area.as_ptr(), format().size) }
    }

    /// Lets `change` overwrite the saved bytes with anything, and makes the result one that [`Self::load`] may load.
    pub fn edit<R>(&mut self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        // SAFETY: as for `image`, borrowed mutably.
        let image = unsafe { core::slice::from_raw_parts_mut(self.area.as_ptr(), format().size) };
        let result = change(image);
        sanitise(image);
        result
    }

    /// Stores the registers.
    pub fn save(&mut self) {
        let area = self.area.as_ptr();
        // SAFETY: the area has the size and alignment that the instruction wants for the enabled components.
        unsafe {
            match format().method {
                Method::Fxsave => asm!("fxsave64 [{}]", in(reg) area, options(nostack)),
                Method::Xsave => asm!("xsave64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack)),
                Method::Xsaveopt => asm!("xsaveopt64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack)),
            }
        }
    }

    /// Loads the registers.
    pub fn load(&self) {
        let area = self.area.as_ptr();
        // SAFETY: as for `save`; the contents come from `new`, `save` or `edit`, so no reserved bit is set.
        unsafe {
            match format().method {
                Method::Fxsave => asm!("fxrstor64 [{}]", in(reg) area, options(nostack)),
                Method::Xsave | Method::Xsaveopt => {
                    asm!("xrstor64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack));
                }
            }
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.area.as_ptr(), Self::layout()) }
    }
}
