//! FPU, SSE and AVX state of user threads.
//!
//! Owns: what is enabled (XCR0), the save area's format and size, save and load. XSAVE when the CPU has it, because ring 3
//! may then use AVX, which FXSAVE does not save; FXSAVE otherwise (SDM vol. 1, 13). Kernel code is soft-float and never
//! looks at these registers, so `user` saves them only when another thread is entered.
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
}

static FORMAT: Once<Format> = Once::new();

/// Chooses the format and enables its components. CR4.OSXSAVE and OSFXSR are set already.
pub fn init() {
    let features = cpu::features();
    let format = if features.xsave {
        let method = if features.xsaveopt { Method::Xsaveopt } else { Method::Xsave };
        Format { method, size: enable_components() }
    } else {
        Format { method: Method::Fxsave, size: FXSAVE_SIZE }
    };
    FORMAT.call_once(|| format);
}

/// Enables x87, SSE, and of AVX and AVX-512 what is there; returns the size of the area for these.
fn enable_components() -> usize {
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
    size.max(XSAVE_MINIMUM)
}

fn format() -> Format {
    *FORMAT.get().expect("the FPU is set up at boot")
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
        // SAFETY: as for `save`; the contents come from `new` or `save`, so no reserved bit is set.
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
