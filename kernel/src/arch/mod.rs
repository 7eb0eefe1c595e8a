//! The one machine this kernel knows. Everything privileged or in assembly is below here.

mod x86_64;

pub use self::x86_64::*;
