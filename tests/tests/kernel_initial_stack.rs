//! What a new program finds on its stack, on the host: read back the way a C library does.

extern crate alloc;

// Warnings about parts that only the kernel uses would be about another crate.
#[allow(dead_code)]
#[path = "../../kernel/src/process/stack.rs"]
mod stack;

use proptest::prelude::*;
use stack::{MAX_BYTES, ProgramFacts, TooBig};

const TOP: u64 = 0x7fff_ffff_f000;

/// A finished stack as the program sees it.
struct Seen {
    pointer: u64,
    bytes: Vec<u8>,
}

impl Seen {
    fn word(&self, at: u64) -> u64 {
        let from = (at - self.pointer) as usize;
        u64::from_le_bytes(self.bytes[from..from + 8].try_into().expect("eight bytes"))
    }

    fn string(&self, at: u64) -> &[u8] {
        let tail = &self.bytes[(at - self.pointer) as usize..];
        &tail[..tail.iter().position(|b| *b == 0).expect("strings end")]
    }

    /// The strings of a list of pointers that ends with null, and where the list ends.
    fn list(&self, mut at: u64) -> (Vec<Vec<u8>>, u64) {
        let mut found = Vec::new();
        while self.word(at) != 0 {
            found.push(self.string(self.word(at)).to_vec());
            at += 8;
        }
        (found, at + 8)
    }

    fn auxiliary(&self, mut at: u64, key: u64) -> Option<u64> {
        while self.word(at) != 0 {
            if self.word(at) == key {
                return Some(self.word(at + 8));
            }
            at += 16;
        }
        None
    }
}

proptest! {
    #[test]
    fn arguments_and_environment_come_back_as_given(
        argv in prop::collection::vec("[^\0]{0,40}", 0..20),
        env in prop::collection::vec("[A-Z]{1,8}=[^\0]{0,40}", 0..20),
        random in any::<[u8; 16]>(),
    ) {
        let argv: Vec<&[u8]> = argv.iter().map(|s| s.as_bytes()).collect();
        let env: Vec<&[u8]> = env.iter().map(|s| s.as_bytes()).collect();
        let facts = ProgramFacts { entry: 0x1234, program_header_count: 7, random, ..ProgramFacts::default() };
        let built = stack::build(TOP, &argv, &env, b"/prog", &facts).expect("it is small");
        let seen = Seen { pointer: built.pointer, bytes: built.bytes };

        prop_assert_eq!(seen.pointer % 16, 0);
        prop_assert_eq!(seen.pointer + seen.bytes.len() as u64, TOP);
        prop_assert_eq!(seen.word(seen.pointer), argv.len() as u64);
        let (arguments, env_at) = seen.list(seen.pointer + 8);
        prop_assert_eq!(arguments, argv);
        let (environment, auxv) = seen.list(env_at);
        prop_assert_eq!(environment, env);

        prop_assert_eq!(seen.auxiliary(auxv, 6), Some(4096));
        prop_assert_eq!(seen.auxiliary(auxv, 9), Some(0x1234));
        prop_assert_eq!(seen.auxiliary(auxv, 5), Some(7));
        prop_assert_eq!(seen.auxiliary(auxv, 7), Some(0));
        prop_assert_eq!(seen.auxiliary(auxv, 33), None, "there is no vDSO");
        let random_at = seen.auxiliary(auxv, 25).expect("AT_RANDOM");
        let from = (random_at - seen.pointer) as usize;
        prop_assert_eq!(&seen.bytes[from..from + 16], &random[..]);
        prop_assert_eq!(seen.string(seen.auxiliary(auxv, 31).expect("AT_EXECFN")), b"/prog");
    }
}

#[test]
fn too_much_is_refused() {
    let long = vec![b'x'; MAX_BYTES];
    let built = stack::build(TOP, &[&long], &[], b"/prog", &ProgramFacts::default());
    assert_eq!(built.err(), Some(TooBig));
}
