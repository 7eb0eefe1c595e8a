#!/bin/sh
# Installs what Ebb needs and is not there yet; with arguments, then runs `just` with them.
#
# Safe to run again at any time: every tool is tried first, and only what fails the trial is
# installed. Messages go to stderr, so that stdout is the recipe's alone.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
target=x86_64-unknown-none
qemu_min=7.2
rustup_seconds=30 # A rustup that cannot download is given up after this.

usage() {
    cat <<'END'
usage: ./setup.sh [RECIPE [ARG...]]

Installs what is missing: the x86_64-unknown-none Rust target, QEMU 7.2 or later, just, mke2fs,
a C compiler with static glibc, and musl-gcc. Then runs `just RECIPE ARG...`, if given a RECIPE.

    ./setup.sh           only set up
    ./setup.sh run       set up, then boot the kernel with the default workload
    ./setup.sh test      set up, then run what CI runs
    ./setup.sh --list    set up, then list the recipes

Rust itself (rustup, or packages of the distribution) must be there already. Packages are
installed with apt-get, as root or through sudo; on other systems the missing ones are named.
END
}

main() {
    case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
    esac
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        die "this is $(uname -sm): Ebb is built and tested on Linux x86_64 only."

    work=''
    missing=''
    did=''
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    find_rust
    ensure_packages
    ensure_qemu
    [ -z "$missing" ] || die "there is no apt-get on this system; please install by its own means, then run this again:$missing"
    ensure_components
    ensure_target
    ensure_just

    if [ $# -eq 0 ]; then
        say "everything is in place; try: just run"
        exit 0
    fi
    cleanup # exec does not run the trap.
    exec "$just" --justfile "$root/justfile" "$@"
}

# --- Helpers -------------------------------------------------------------------------------

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

cleanup() {
    [ -z "$work" ] || rm -rf -- "$work"
    work=''
}

have() { command -v "$1" >/dev/null 2>&1; }

# The directory for temporary files, made at its first use.
need_work() {
    [ -n "$work" ] && return
    work=$(mktemp -d "${TMPDIR:-/tmp}/ebb-setup.XXXXXX") || die "mktemp failed: is ${TMPDIR:-/tmp} full or read-only?"
}

# step MESSAGE COMMAND...: runs quietly, keeps the output for show_log.
step() {
    need_work
    say "$1"
    shift
    "$@" >"$work/log" 2>&1 </dev/null
}

# The end of the last step's output, indented.
show_log() { tail -n "${1:-6}" "$work/log" | sed 's/^/    /' >&2; }

# Runs a command as root; false where that is impossible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        return 1
    fi
}

can_root() { [ "$(id -u)" = 0 ] || have sudo; }

# version_at_least HAVE WANT, for dotted numbers.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# --- Rust ----------------------------------------------------------------------------------

# In the checkout, so that rust-toolchain.toml counts; rustup must not start a download unasked.
rust() { (cd "$root" && RUSTUP_AUTO_INSTALL=0 "$@"); }

# Leaves a working cargo and rustc on PATH.
find_rust() {
    if ! have cargo; then
        for dir in "${CARGO_HOME:-${HOME:-}/.cargo}/bin" "${HOME:-}/.cargo/bin"; do
            if [ -x "$dir/cargo" ]; then
                PATH=$dir:$PATH
                export PATH
                say "cargo is not on PATH, using the one in $dir"
                break
            fi
        done
    fi
    if ! have cargo; then
        hint=''
        [ -z "${SUDO_USER-}" ] || hint=" (Not with sudo, if your own account has it: the script asks for root where it must.)"
        die "cargo is not on PATH: install Rust 1.95 or later with rustup (for example: apt-get install rustup && rustup default stable), then run this again.$hint"
    fi
    rust cargo --version >/dev/null 2>&1 && rust rustc --version >/dev/null 2>&1 && return

    # A rustup shim without its toolchains: usually HOME is not the one rustup was installed
    # with. The toolchains are then beside the shim's own directory.
    shim=$(command -v cargo)
    beside=${shim%/bin/cargo}/../.rustup
    if [ -z "${RUSTUP_HOME-}" ] && [ -d "$beside/toolchains" ]; then
        RUSTUP_HOME=$(cd "$beside" && pwd)
        export RUSTUP_HOME
        if rust cargo --version >/dev/null 2>&1; then
            say "HOME (${HOME:-empty}) has no Rust toolchain; using RUSTUP_HOME=$RUSTUP_HOME, which belongs to $shim"
            return
        fi
        unset RUSTUP_HOME
    fi
    say "$shim does not work:"
    RUST_BACKTRACE=0 rust cargo --version 2>&1 | sed 's/^/    /' >&2
    die "with HOME=${HOME-} and RUSTUP_HOME=${RUSTUP_HOME-}, no 'stable' toolchain is found: set RUSTUP_HOME to where rustup keeps its toolchains, or run: rustup toolchain install stable"
}

# Is the active compiler one that rustup manages?
rust_is_rustup() {
    have rustup && [ "$(rust rustup which rustc 2>/dev/null)" = "$(sysroot)/bin/rustc" ]
}

sysroot() { rust rustc --print sysroot; }

# A rustup command with a bound on its time, since a blocked network may just be silent.
rustup_bounded() {
    (cd "$root" && RUSTUP_MAX_RETRIES=1 timeout "$rustup_seconds" rustup "$@")
}

ensure_components() {
    rust cargo clippy --version >/dev/null 2>&1 && rust cargo fmt --version >/dev/null 2>&1 && return
    if rust_is_rustup && step "adding rustfmt and clippy with rustup" rustup_bounded component add rustfmt clippy; then
        return
    fi
    say "rustfmt or clippy is missing: the recipes test and preflight will fail; run: rustup component add rustfmt clippy (Debian: apt-get install rustfmt rust-clippy)"
}

# Can the compiler use the target? Metadata is enough to load core and alloc. To optimise a whole
# program takes their bitcode too, which this script's own libraries once did not carry.
target_works() {
    dir=$(sysroot)/lib/rustlib/$target/lib
    ls "$dir"/libcompiler_builtins-*.rlib >/dev/null 2>&1 || return 1
    need_work
    printf '#![no_std]\nextern crate alloc;\n' >"$work/probe.rs"
    printf '#![no_std]\n#![no_main]\n#[panic_handler]\nfn end(_: &core::panic::PanicInfo) -> ! { loop {} }\n' >"$work/whole.rs"
    rust rustc --target "$target" --crate-type lib --emit=metadata --out-dir "$work" "$work/probe.rs" >"$work/log" 2>&1 &&
        rust rustc --target "$target" -C lto=fat -o "$work/whole" "$work/whole.rs" >"$work/log" 2>&1
}

# Are there libraries that this script built? Those of rustup would come beside them, and be one too many.
target_is_own() {
    libs=$(sysroot)/lib/rustlib
    [ -d "$libs/$target/lib" ] && ! [ -f "$libs/manifest-rust-std-$target" ]
}

ensure_target() {
    target_works && return
    if rust_is_rustup && ! target_is_own; then
        if step "adding the Rust target $target with rustup" rustup_bounded target add "$target"; then
            target_works && return
            say "rustup added $target, but the compiler cannot use it"
        else
            say "rustup cannot download it; building it from the compiler's own sources"
        fi
    fi
    build_target
    target_works || { show_log 12; die "the compiler does not accept the $target built from its sources: remove $(sysroot)/lib/rustlib/$target and run: rustup target add $target"; }
}

# Builds core, alloc and compiler_builtins once and puts them where rustup would have: from then
# on the target works with the stable compiler exactly as after `rustup target add`.
build_target() {
    version=$(rust rustc --version | cut -d' ' -f2)
    hash=$(rust rustc -vV | sed -n 's/^commit-hash: //p')
    host=$(rust rustc -vV | sed -n 's/^host: //p')
    sys=$(sysroot)
    libs=$sys/lib/rustlib/$target
    need_work
    if ! [ -w "$sys/lib/rustlib" ] && ! can_root; then
        die "cannot write $libs: run this script once as root, or make $sys/lib/rustlib writable."
    fi

    library=$sys/lib/rustlib/src/rust/library
    [ -f "$library/core/Cargo.toml" ] || fetch_rust_src "$version"
    source=$(cd "$library/.." && pwd -P)

    # A sysroot of links that has the sources, so that the real one changes only at the end.
    mkdir -p "$work/sysroot/lib/rustlib/src" "$work/build/src" || die "cannot write in $work"
    ln -s "$sys/lib/rustlib/$host" "$work/sysroot/lib/rustlib/$host"
    ln -s "$source" "$work/sysroot/lib/rustlib/src/rust"
    printf '#!/bin/sh\nexec "%s/bin/rustc" --sysroot "%s/sysroot" "$@"\n' "$sys" "$work" >"$work/rustc"
    chmod +x "$work/rustc"
    printf '[package]\nname = "throwaway"\nversion = "0.0.0"\nedition = "2021"\n' >"$work/build/Cargo.toml"
    printf '#![no_std]\n' >"$work/build/src/lib.rs"

    step "building core and alloc $version for $target (once, about 15 s)" build_std ||
        { show_log 12; die "building the $target library from rust-src $version failed: run 'rustup target add $target' where rustup can download."; }

    mkdir -p "$work/lib"
    for crate in core alloc compiler_builtins; do
        # shellcheck disable=SC2086
        cp "$work/out/$target/release/deps/lib$crate"-*.rlib "$work/lib/" 2>/dev/null ||
            die "the build of the $target library made no lib$crate: run 'rustup target add $target' where rustup can download."
    done
    # shellcheck disable=SC2016 # Expanded by the inner shell.
    put='mkdir -p "$2" && rm -rf "$2/lib" "$2/lib.new" && cp -R "$1" "$2/lib.new" && mv "$2/lib.new" "$2/lib"'
    if [ -w "$sys/lib/rustlib" ]; then
        sh -c "$put" sh "$work/lib" "$libs"
    else
        as_root sh -c "$put" sh "$work/lib" "$libs"
    fi || die "cannot write $libs: is the disk full?"
}

# In a shell of its own: the directory it goes to is removed later.
build_std() (
    cd "$work/build" &&
        env -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u CARGO_TARGET_DIR \
            RUSTC_BOOTSTRAP=1 RUSTC="$work/rustc" \
            RUSTFLAGS="-C embed-bitcode=yes --remap-path-prefix=$source=/rustc/$hash --remap-path-prefix=$work/sysroot/lib/rustlib/src/rust=/rustc/$hash" \
            "$sys/bin/cargo" build --release --target "$target" --target-dir "$work/out" \
            -Zbuild-std=core,alloc,compiler_builtins -Zbuild-std-features=compiler-builtins-mem
)

# Finds Debian's rust-src of exactly this version in any suite of the machine's own mirror, and
# unpacks it without installing it. Sets $library.
fetch_rust_src() {
    how="run 'rustup target add $target' where rustup can download (or 'rustup component add rust-src', then this again)"
    if ! have apt-get || ! have dpkg-deb; then
        die "the Rust target $target is missing, and without rustup downloads or apt-get this script cannot get it: $how."
    fi
    mirror=$(debian_mirror)
    [ -n "$mirror" ] ||
        die "the Rust target $target is missing and apt has no Debian mirror to get rust-src $1 from: $how."
    say "looking for Debian's rust-src $1"
    seen=''
    unread=''
    for suite in "$(os_release VERSION_CODENAME)-backports" stable-backports oldstable-backports testing unstable stable experimental; do
        if ! private_apt "$mirror" "$suite"; then
            unread="$unread $suite"
            continue
        fi
        found=$(apt_get_private madison rust-src 2>/dev/null | cut -d'|' -f2 | tr -d ' ')
        for candidate in $found; do
            case $candidate in
            "$1"[+~-]*)
                mkdir -p "$work/deb"
                (cd "$work/deb" && step "downloading rust-src $candidate from $suite" apt_get_private download "rust-src=$candidate") ||
                    { show_log; die "downloading rust-src $candidate failed: check the network and run this again, or $how."; }
                dpkg-deb -x "$work"/deb/rust-src_*.deb "$work/src" 2>"$work/log" ||
                    { show_log; die "unpacking rust-src $candidate failed: is ${TMPDIR:-/tmp} full?"; }
                for library in "$work"/src/usr/src/rustc-*/library; do
                    [ -f "$library/core/Cargo.toml" ] && return
                done
                die "rust-src $candidate has no library sources in the place where Debian puts them: $how."
                ;;
            esac
            seen="$seen $candidate ($suite)"
        done
    done
    show_log 3
    die "no suite of the Debian mirror has rust-src $1 (found:${seen:- none}; unreadable, as above:${unread:- none}): $how."
}

# --- Debian packages -----------------------------------------------------------------------

# apt_install PACKAGE... Never at the price of a package that is there.
apt_install() {
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120 install --no-remove --no-install-recommends "$@"
}

# Once a run; a broken third-party source must not stop us, so the status is not looked at.
apt_update() {
    [ -n "$did" ] && return
    did=updated
    as_root apt-get update
}

need_root_for() {
    can_root || die "installing packages needs root and there is no sudo: run as root 'apt-get update && apt-get install -y $*', then this again."
}

ensure_packages() {
    PATH=$PATH:/usr/sbin:/sbin # mke2fs is there, and is run by users too.
    export PATH
    packages=''
    have mke2fs || want e2fsprogs "mke2fs, the ext2/3/4 tools (e2fsprogs)"
    have gcc || want gcc "gcc"
    static_glibc || want libc6-dev "the static C library libc.a (glibc-static, part of libc6-dev)"
    have musl-gcc || want musl-tools "musl-gcc (musl-tools)"
    # What the recipes for other people's programs need (tests/src/programs/debian.rs).
    have make || want make "make"
    have tclsh || want tcl "tclsh (tcl)"
    have xz || want xz-utils "xz (xz-utils)"
    [ -n "$packages" ] || return 0
    # shellcheck disable=SC2086
    need_root_for $packages
    # shellcheck disable=SC2086
    step "installing$packages" apt_install $packages ||
        { show_log; die "apt-get could not install$packages: mend that (see above), then run this again."; }
}

# want PACKAGE DESCRIPTION: to be installed by apt-get, or else to be named to the user.
want() {
    if have apt-get; then
        packages="$packages $1"
    else
        missing="$missing
    - $2"
    fi
}

static_glibc() {
    have gcc || return 1
    case $(gcc -print-file-name=libc.a) in /*) ;; *) return 1 ;; esac
}

# shellcheck disable=SC1091 # Not a file of ours.
os_release() { (. /etc/os-release 2>/dev/null && eval "printf %s \"\${$1-}\""); }

# The mirror that apt gets Debian itself from (not its security suite).
debian_mirror() {
    # shellcheck disable=SC2016 # apt expands these.
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$(os_release VERSION_CODENAME)" '
            $3 == "main" && $2 !~ /security/ && $1 ~ /debian/ { if ($2 == suite && !exact) { exact = $1 } else if (!any) any = $1 }
            END { print exact ? exact : any }'
}

# private_apt MIRROR SUITE: an apt state of our own with that one suite; the machine's sources and
# package lists stay as they are.
private_apt() {
    need_work
    rm -rf "$work/apt"
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/apt/parts"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    if [ -f "$key" ]; then key="[signed-by=$key] "; else key=''; fi
    printf 'deb %s%s %s main\n' "$key" "$1" "$2" >"$work/apt/parts/suite.list"
    apt_get_private update >"$work/log" 2>&1
}

# Runs apt-get (or, for its verbs, apt-cache) on the private state.
# A mirror that has fallen behind its suites' dates still has the sources; signatures are checked all the same.
apt_get_private() {
    tool=apt-get
    [ "$1" != madison ] || tool=apt-cache
    "$tool" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/parts" \
        -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
        -o Acquire::Languages=none -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=20 "$@"
}

# --- QEMU ----------------------------------------------------------------------------------

qemu_version() { qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.* version \([0-9][0-9.]*\).*/\1/p'; }

qemu_works() {
    version=$(qemu_version)
    [ -n "$version" ] && version_at_least "$version" "$qemu_min"
}

ensure_qemu() {
    qemu_works && return
    if ! have apt-get; then
        missing="$missing
    - QEMU $qemu_min or later with qemu-system-x86_64${version:+ (found $version)}"
        return
    fi
    need_root_for qemu-system-x86
    step "installing QEMU" install_qemu && qemu_works && return
    # Debian 12 refuses its own QEMU beside qemu-utils from backports, and Debian 11's is too old:
    # take all of it from backports.
    if [ "$(os_release ID)" = debian ]; then
        suite=$(os_release VERSION_CODENAME)-backports
        step "the distribution's QEMU cannot be installed or is too old; installing it from $suite" \
            install_qemu_backports "$suite" && qemu_works && return
    fi
    show_log
    die "no QEMU $qemu_min or later could be installed${version:+ (found $version)}: install qemu-system-x86_64 by hand, then run this again."
}

# Refuses at once, and changes nothing, where the version offered is too old.
install_qemu() {
    apt_update
    offered=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p')
    dpkg --compare-versions "${offered#*:}" ge "$qemu_min" && apt_install qemu-system-x86
}

# The machine's own sources and one more, in a private apt state.
install_qemu_backports() {
    mirror=$(debian_mirror)
    [ -n "$mirror" ] && private_apt "$mirror" "$1" || return 1
    mkdir -p "$work/apt/parts"
    cp /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list "$work/apt/parts/" 2>/dev/null
    [ ! -f /etc/apt/sources.list ] || cp /etc/apt/sources.list "$work/apt/parts/main.list"
    apt_get_private update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/parts" \
        -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
        -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=120 \
        -y -t "$1" install --no-remove --no-install-recommends qemu-system-x86
}

# --- just ----------------------------------------------------------------------------------

# Sets $just, also where its directory is not on PATH.
ensure_just() {
    find_just && return
    if have apt-get && can_root && apt-cache policy just 2>/dev/null | grep -q '^ *Candidate: [0-9]'; then
        step "installing just with apt-get" apt_install just && find_just && return
    fi
    if python3 -m pip --version >/dev/null 2>&1; then
        step "installing just with pip" pip_install rust-just && find_just && return
    fi
    if ! have pipx && have apt-get && can_root; then
        step "installing pipx (to install just with)" apt_install pipx
    fi
    if have pipx; then
        step "installing just with pipx" pipx install rust-just && find_just && return
    fi
    step "installing just with cargo (takes minutes)" rust cargo install --locked just && find_just && return
    show_log
    die "just could not be installed by pip, pipx or cargo: install it by hand (its package is called just, on PyPI rust-just), then run this again."
}

# Into Python's own place, else the user's, also where the distribution wants to be asked twice:
# rust-just is a lone program that nothing else in Python can depend on.
pip_install() {
    set -- python3 -m pip install --disable-pip-version-check "$1"
    "$@" || "$@" --user || "$@" --user --break-system-packages || return
    ! have pyenv || pyenv rehash
}

find_just() {
    just=just
    just --version >/dev/null 2>&1 && return
    for just in "${HOME:-}/.local/bin/just" "${CARGO_HOME:-${HOME:-}/.cargo}/bin/just" "$(python_scripts)/just" "$(python_scripts --user)/just"; do
        if "$just" --version >/dev/null 2>&1; then
            say "just is not on PATH; to call it without this script, add ${just%/just} to PATH"
            return 0
        fi
    done
    return 1
}

# Where pip puts programs. The user's directory is asked for in a way that all Python 3 know.
python_scripts() {
    if [ "${1-}" = --user ]; then
        printf '%s/bin' "$(python3 -m site --user-base 2>/dev/null)"
    else
        python3 -c 'import sysconfig; print(sysconfig.get_path("scripts"))' 2>/dev/null
    fi
}

main "$@"
