# Arguments reach the commands as "$@", exactly as they were given.
set positional-arguments

kernel_target := "x86_64-unknown-none"
linux_target := "x86_64-unknown-linux-gnu"
target_dir := env("CARGO_TARGET_DIR", justfile_directory() / "target")
manifest := quote(justfile_directory() / "Cargo.toml")

# List the recipes.
[private]
default:
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --list --unsorted

# Boot the kernel in QEMU and run a program under memory pressure: `just run --help`.
[no-cd]
[no-exit-message]
run *ARGS: announce
    @cargo run --quiet --release --manifest-path {{ manifest }} --package ebb -- run "$@"

# Run everything that CI runs.
test: preflight

# Check formatting and lints, then run all tests with reduced counts and fresh seeds.
preflight: lint (kernel "checked") workloads
    cargo test --profile checked --no-fail-fast

# Run all tests with their full counts.
soak: (kernel "checked") workloads
    EBB_SOAK=1 cargo test --profile checked --no-fail-fast

# Run the check of every feature and print one line a row: `just features --help`.
[no-exit-message]
features *ARGS: (kernel "checked") workloads
    @cargo run --quiet --profile checked --package tests --bin features -- "$@"

# Measure the kernel, and Linux beside it, into docs/benchmarks.md: `just bench --help`; `quick` takes minutes, `profile` counts by function.
[no-exit-message]
bench *ARGS:
    @cargo run --quiet --profile checked --package tests --bin bench -- "$@"

# Build the small Linux that `just bench` compares with, from Debian's source package, once: 10 minutes, 2 GB.
[no-exit-message]
linux *SUITE:
    @tests/linux/build.sh {{ quote(justfile_directory() / "target/linux") }} "$@"

# Compare replacement policies on reference strings and print docs/replacement.md.
[no-exit-message]
policies:
    @cargo run --quiet --profile checked --package tests --bin policies

# Build the kernel's ELF file and the workloads, optimised, and say where they are.
image: (kernel "release") workloads
    @echo {{ quote(target_dir / kernel_target / "release/kernel") }}
    @echo {{ quote(target_dir / linux_target / "release/pressure") }}

# Links to private items are no mistake where private items are documented.
rustdoc_flags := "-D warnings -A rustdoc::private-intra-doc-links"

# Build the documentation of all crates, private items included, with warnings denied.
doc:
    RUSTDOCFLAGS={{ quote(rustdoc_flags) }} cargo doc --no-deps --document-private-items
    RUSTDOCFLAGS={{ quote(rustdoc_flags) }} cargo doc --no-deps --document-private-items --package kernel --target {{ kernel_target }}

# Check formatting, and lints with warnings denied, for the host crates and for the kernel.
lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy --package kernel --target {{ kernel_target }} --profile checked -- -D warnings

# `run` builds quietly: ebb sees to the kernel and the workloads, and says so if that takes long.
[private]
announce:
    @test -x {{ quote(target_dir / "release/ebb") }} || echo "building the host tool, once" >&2

# A RUSTFLAGS variable would replace the flags in .cargo/config.toml, and the kernel not link.
[no-exit-message]
[private]
kernel PROFILE:
    @env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_RUSTFLAGS \
        cargo kernel --profile "$1"

# The workloads are ordinary Linux programs, linked statically.
[no-exit-message]
[private]
workloads:
    @RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --package workloads --target {{ linux_target }}
