#!/bin/sh
# build.sh DIRECTORY [SUITE]: builds the Linux that `just bench` compares with, and leaves it in DIRECTORY as `vmlinux`.
#
# The source is Debian's package of it, of the newest kernel (SUITE sid) unless told otherwise. It comes through a private apt directory, so
# that the system's package lists and settings stay as they are. The configuration is `config` beside this script and nothing else.
# Takes 5 to 10 minutes and 2 GB; does nothing if DIRECTORY has a kernel that was built from the same configuration and suite.
# Packages: gcc make flex bison bc libelf-dev perl python3 xz-utils
set -eu

[ $# -ge 1 ] || { echo "usage: build.sh DIRECTORY [SUITE]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
suite=${2:-sid}
tree=$out/source-$suite
stamp="$suite $(cksum < "$here/config")"
[ -f "$out/vmlinux" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ] && exit 0

for tool in gcc make flex bison bc perl python3 xz; do
    command -v $tool > /dev/null || { echo "build.sh: $tool is missing (packages: see $0)" >&2; exit 1; }
done

# Where this machine gets its packages from.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$') ||
    { echo "build.sh: apt knows no mirror of Debian" >&2; exit 1; }

apt=$out/apt
private_apt() {
    apt-get -qq -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Sandbox::User=root "$@"
}

if [ ! -d "$tree" ]; then
    echo "fetching the source of Linux from $suite" >&2
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : > "$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$apt/sources.list"
    private_apt update
    # linux-source depends on the package of one version.
    package=$(private_apt -s install --no-install-recommends linux-source | awk '$2 ~ /^linux-source-[0-9]/ { print $2; exit }')
    (cd "$apt" && private_apt download "$package" && dpkg-deb -x "$package"_*.deb files)
    mkdir -p "$tree.part"
    tar -C "$tree.part" --strip-components=1 -xf "$apt/files/usr/src/$package.tar.xz"
    mv "$tree.part" "$tree"
    rm -rf "$apt"
fi

echo "building Linux, which takes some minutes" >&2
cd "$tree"
make -s KCONFIG_ALLCONFIG="$here/config" allnoconfig
# What a newer Linux calls otherwise would be left out silently.
while read -r option; do
    case $option in
    CONFIG_*) grep -qx "$option" .config || { echo "build.sh: this Linux does not know, or want, $option" >&2; exit 1; } ;;
    esac
done < "$here/config"
nice make -s -j"$(nproc)" vmlinux
strip -o "$out/vmlinux" vmlinux
make -s kernelrelease > "$out/version"
echo "$stamp" > "$out/stamp"
