//! The kernel's own areas: virtual space for what is not RAM, given out by the same buddy as everything else.
//!
//! Owns: which addresses of the region of areas are whose, with an unmapped guard page behind each area, and what each maps.
//! Does not own: page tables (`kernel_space`), what the memory means (drivers, `acpi`). Seen from any address space they are the
//! same, because the region's top-level entries are there from boot on.
#![expect(unsafe_code, reason = "ends mappings that drivers had addresses of")]

use core::ptr::NonNull;

use mm::range::{Area, Found, RangeMap, Span};
use x86_64::VirtAddr;

use super::kernel_space::{self, OutOfTables, TableSource};
use super::layout::{AREAS, SCATTERED};
use super::pat::Caching;
use crate::boot::PhysRange;
use crate::boot::memory::PAGE;
use crate::sync::Mutex;

/// The unmapped pages behind every area.
const GUARD: u64 = 1;

/// What an area maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where it is in the physical address space: whole pages.
    pub physical: PhysRange,
    /// How it is cached.
    pub caching: Caching,
    /// Whether it can be written.
    pub writes: Writes,
}

/// Whether an area can be written: firmware's tables cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Writes {
    Allowed,
    Refused,
}

/// Memory outside RAM, mapped until [`unmap`].
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Its first byte.
    pub start: NonNull<u8>,
    /// Its length in bytes.
    pub len: u64,
}

// SAFETY: the mapping is the same on every CPU; what accesses mean is the device driver's business.
unsafe impl Send for Mapped {}

/// Units are pages.
static AREA_MAP: Mutex<Option<RangeMap<Mapping>>> = Mutex::new(None);

fn with_areas<T>(look: impl FnOnce(&mut RangeMap<Mapping>) -> T) -> T {
    const ALL: Span = Span::between(AREAS / PAGE, SCATTERED / PAGE).expect("the region is not empty");
    look(AREA_MAP.lock().get_or_insert_with(|| RangeMap::new(ALL)))
}

/// Where an area is to be.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Wherever there is room.
    Anywhere,
    /// From this page-aligned address on.
    At(VirtAddr),
}

/// Maps memory outside RAM; constants for who looks at it as at RAM, variables otherwise.
pub fn map(range: PhysRange, caching: Caching, source: &mut TableSource<'_>) -> Result<Mapped, OutOfTables> {
    map_at(Place::Anywhere, range, caching, source)
}

/// The same at a place of choice.
pub fn map_at(
    place: Place,
    range: PhysRange,
    caching: Caching,
    source: &mut TableSource<'_>,
) -> Result<Mapped, OutOfTables> {
    let physical = PhysRange::new(range.start.align_down(PAGE), range.end.align_up(PAGE));
    let pages = physical.len() / PAGE + GUARD;
    let writes = if caching == Caching::WriteBack { Writes::Refused } else { Writes::Allowed };
    let mapping = Mapping { physical, caching, writes };
    let area = with_areas(|areas| match place {
        Place::Anywhere => areas.alloc(pages, 0, mapping),
        Place::At(start) => {
            let span = Span::new(start.as_u64() / PAGE, pages).expect("an area ends below the image");
            areas.alloc_fixed(span, mapping).map(|()| span)
        }
    })
    .map_err(|_| OutOfTables)?;
    let base = area.start() * PAGE;
    if let Err(error) = kernel_space::map_pages(base, mapping, source) {
        release(base, physical);
        return Err(error);
    }
    let start = core::ptr::with_exposed_provenance_mut((base + (range.start - physical.start)) as usize);
    Ok(Mapped { start: NonNull::new(start).expect("no area is at 0"), len: range.len() })
}

/// Maps RAM of our own as a stack, for ever, and returns the address above it. The page below is never mapped: it is the guard page of
/// another area, or free.
pub fn map_stack(memory: PhysRange, source: &mut TableSource<'_>) -> Result<VirtAddr, OutOfTables> {
    let mapping = Mapping { physical: memory, caching: Caching::WriteBack, writes: Writes::Allowed };
    let area = with_areas(|areas| areas.alloc(memory.len() / PAGE + GUARD, 0, mapping)).map_err(|_| OutOfTables)?;
    let base = area.start() * PAGE;
    if let Err(error) = kernel_space::map_pages(base, mapping, source) {
        release(base, memory);
        return Err(error);
    }
    Ok(VirtAddr::new(base + memory.len()))
}

/// Ends a mapping.
///
/// # Safety
/// It came from [`map`] or [`map_at`], and nobody uses its addresses any more.
pub unsafe fn unmap(mapped: Mapped) {
    let page = mapped.start.addr().get() as u64 / PAGE;
    let found = with_areas(|areas| match areas.lookup(page)?.area {
        Area::Allocated(mapping) => Some(mapping.physical),
        Area::Reserved => None,
    });
    release(page * PAGE, found.expect("the mapping exists"));
}

fn release(base: u64, physical: PhysRange) {
    kernel_space::unmap_pages(base, physical.len() / PAGE);
    with_areas(|areas| areas.free(base / PAGE)).expect("an area begins where its mapping does");
}

/// Tells of every area: its first address, and what it maps.
pub fn each(tell: &mut dyn FnMut(VirtAddr, Mapping)) {
    with_areas(|areas| {
        for Found { span, area } in areas.areas() {
            if let Area::Allocated(mapping) = area {
                tell(VirtAddr::new(span.start() * PAGE), *mapping);
            }
        }
    });
}
