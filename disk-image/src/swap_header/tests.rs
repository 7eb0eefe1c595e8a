//! Every field at its documented offset, and every reason for a refusal.

use super::*;

const DEVICE: Pages = Pages(256);

fn header() -> SwapHeader {
    SwapHeader::new(DEVICE, Uuid::from_random([0xff; 16]), Label::new("ebb")).unwrap()
}

fn page() -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    header().write(&mut page);
    page
}

fn refusal(change: impl FnOnce(&mut [u8; PAGE_BYTES])) -> HeaderError {
    let mut page = page();
    change(&mut page);
    SwapHeader::parse(&page, DEVICE).unwrap_err()
}

#[test]
fn what_is_written_is_parsed_back() {
    assert_eq!(SwapHeader::parse(&page(), DEVICE), Ok(header()));
    assert_eq!(header().pages(), DEVICE);
    assert_eq!(header().last_page(), 255);
}

#[test]
fn the_fields_are_where_mkswap_puts_them() {
    let page = page();
    assert_eq!(page[..1024], [0; 1024]);
    assert_eq!(page[1024..1028], 1u32.to_le_bytes());
    assert_eq!(page[1028..1032], 255u32.to_le_bytes());
    assert_eq!(page[1032..1036], [0; 4]);
    assert_eq!(page[1036..1052], header().uuid().0);
    assert_eq!(&page[1052..1056], b"ebb\0");
    assert_eq!(&page[4086..], b"SWAPSPACE2");
}

#[test]
fn writing_keeps_the_boot_sector_and_clears_old_bad_pages() {
    let mut page = [0xaa; PAGE_BYTES];
    header().write(&mut page);
    assert_eq!(page[..1024], [0xaa; 1024]);
    assert_eq!(page[1536..1540], [0; 4]);
    assert_eq!(SwapHeader::parse(&page, DEVICE), Ok(header()));
}

#[test]
fn a_page_without_a_signature_is_refused() {
    assert_eq!(SwapHeader::parse(&[0; PAGE_BYTES], DEVICE), Err(HeaderError::NoSignature));
    assert_eq!(refusal(|page| page[4095] = b'3'), HeaderError::NoSignature);
}

#[test]
fn the_old_format_is_refused_by_name() {
    assert_eq!(refusal(|page| page[4086..].copy_from_slice(b"SWAP-SPACE")), HeaderError::OldFormat);
}

#[test]
fn a_suspended_system_is_refused_by_name() {
    for signature in [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"] {
        assert_eq!(refusal(|page| page[4086..].copy_from_slice(signature)), HeaderError::Hibernated);
    }
}

#[test]
fn the_other_byte_order_is_refused() {
    assert_eq!(refusal(|page| page[1024..1028].copy_from_slice(&1u32.to_be_bytes())), HeaderError::ForeignEndian);
}

#[test]
fn an_unknown_version_is_refused() {
    assert_eq!(refusal(|page| page[1024] = 2), HeaderError::WrongVersion { version: 2 });
    assert_eq!(refusal(|page| page[1024] = 0), HeaderError::WrongVersion { version: 0 });
}

#[test]
fn bad_pages_are_refused() {
    assert_eq!(refusal(|page| page[1032] = 3), HeaderError::BadPages { count: 3 });
}

#[test]
fn an_area_must_fit_its_device_and_have_a_slot() {
    let larger = HeaderError::LargerThanDevice { header: Pages(256), device: Pages(255) };
    assert_eq!(SwapHeader::parse(&page(), Pages(255)), Err(larger));
    assert!(SwapHeader::parse(&page(), Pages(1 << 40)).is_ok());
    assert_eq!(refusal(|page| page[1028..1032].fill(0)), HeaderError::TooSmall { pages: Pages(1) });
    let all = refusal(|page| page[1028..1032].fill(0xff));
    assert_eq!(all, HeaderError::LargerThanDevice { header: Pages(1 << 32), device: DEVICE });
}

#[test]
fn sizes_out_of_the_fields_range_are_not_built() {
    let build = |pages| SwapHeader::new(Pages(pages), Uuid::default(), Label::default());
    assert_eq!(build(0), Err(HeaderError::TooSmall { pages: Pages(0) }));
    assert_eq!(build(1), Err(HeaderError::TooSmall { pages: Pages(1) }));
    assert!(build(2).is_ok());
    assert!(build(1 << 32).is_ok());
    let pages = Pages((1 << 32) + 1);
    assert_eq!(build(pages.0), Err(HeaderError::TooLarge { pages }));
}

#[test]
fn a_uuid_prints_as_blkid_prints_it() {
    let uuid = Uuid::from_random([0; 16]);
    assert_eq!(uuid.to_string(), "00000000-0000-4000-8000-000000000000");
    assert_eq!(Label::new("a label that is too long").to_string(), "a label that is ");
}
