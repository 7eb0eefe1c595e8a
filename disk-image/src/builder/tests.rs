//! Images in a scratch directory: what is made, and that nothing is overwritten.

use std::os::unix::fs::MetadataExt;

use super::*;

/// A directory of its own for each test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ebb-builder-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_swap_image_is_sparse_and_has_a_valid_header() {
    let scratch = Scratch::new("sparse");
    let path = scratch.0.join("swap.img");
    let header = create_swap_image(&path, Pages::in_bytes(256 << 20)).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 256 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks are not sparse", metadata.blocks());
    let mut page = [0; PAGE_BYTES];
    File::open(&path).unwrap().read_exact(&mut page).unwrap();
    assert_eq!(SwapHeader::parse(&page, Pages::in_bytes(metadata.len())), Ok(header));
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let scratch = Scratch::new("existing");
    let path = scratch.0.join("precious");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(create_swap_image(&path, Pages(16)), Err(BuildError::Io { .. })));
    assert!(matches!(create_ext4_image(&path, &scratch.0), Err(BuildError::Io { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_size_without_a_slot_makes_no_file() {
    let scratch = Scratch::new("size");
    let path = scratch.0.join("swap.img");
    assert!(matches!(create_swap_image(&path, Pages(1)), Err(BuildError::Header(_))));
    assert!(!path.exists());
}

#[test]
fn an_ext4_image_holds_the_directory_in_blocks_of_a_page() {
    let scratch = Scratch::new("ext4");
    let directory = scratch.0.join("data");
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/hello"), "hello").unwrap();
    let path = scratch.0.join("data.img");
    create_ext4_image(&path, &directory).unwrap();
    let mut superblock = [0; 1024];
    let mut file = File::open(&path).unwrap();
    file.read_exact(&mut superblock).unwrap();
    file.read_exact(&mut superblock).unwrap();
    assert_eq!(superblock[0x38..0x3a], 0xef53u16.to_le_bytes(), "ext4's magic number");
    assert_eq!(superblock[0x18..0x1c], 2u32.to_le_bytes(), "1024 << 2 bytes a block");
}

#[test]
fn what_mkswap_makes_is_accepted() {
    let scratch = Scratch::new("mkswap");
    let path = scratch.0.join("swap.img");
    create_new(&path).unwrap().set_len(1 << 20).unwrap();
    // Debian keeps it in /usr/sbin, which is not on every user's PATH; it is part of util-linux, so always there.
    let made = Command::new("/usr/sbin/mkswap").args(["-q", "-L", "theirs"]).arg(&path).status().unwrap();
    assert!(made.success());
    let mut page = [0; PAGE_BYTES];
    File::open(&path).unwrap().read_exact(&mut page).unwrap();
    let header = SwapHeader::parse(&page, Pages(256)).unwrap();
    assert_eq!(header.pages(), Pages(256));
    assert_eq!(header.label(), Label::new("theirs"));
}
