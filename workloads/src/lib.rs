//! Ordinary Linux programs that put memory under pressure.
