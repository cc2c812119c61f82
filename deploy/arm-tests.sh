#!/usr/bin/env bash
# Runs the tests of kernels and backbone on 64-bit ARM: cross-compiled, on processors that qemu imitates, one for each
# instruction set. For x86-64 with Debian 12; on ARM itself the usual tests do the same.
# As root it installs what is missing. Debian's Rust, which has an ARM library, is only unpacked, into target/arm.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$PWD/target/arm"
target=aarch64-unknown-linux-gnu

skip() {
    echo "the ARM tests were NOT run: $*" >&2
    exit 0
}

[ "$(uname -m)" = x86_64 ] || skip 'they are cross-compiled on x86-64'
grep -q '^VERSION_CODENAME=bookworm' /etc/os-release || skip 'they need the packages of Debian 12'

# Our own lists: the machine's stay without ARM.
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
apt=(-o APT::Architectures=amd64,arm64 -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt" -qq)
depends() { apt-cache "${apt[@]}" depends "$1" | sed -n "s/^ *Depends: \($2\)$/\1/p"; }

# Debian renews its Rust with its browsers, so no version is pinned; apt checks the signatures.
unpack_rust() {
    local library llvm deb
    apt-get "${apt[@]}" update
    library=$(depends libstd-rust-web-dev:amd64 'libstd-rust-web-[0-9.]*')
    llvm=$(depends "$library:amd64" 'libllvm[0-9]*')
    mkdir -p "$work/debs" "$work/unpacked"
    (cd "$work/debs" && apt-get "${apt[@]}" -o APT::Sandbox::User=root download rustc-web:amd64 \
        "$library:amd64" "$llvm:amd64" libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64)
    for deb in "$work"/debs/*.deb; do
        dpkg -x "$deb" "$work/unpacked"
    done
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' \
        "$work/unpacked/usr/lib/x86_64-linux-gnu" "$work/unpacked/usr/bin/rustc" >"$work/rustc"
    chmod +x "$work/rustc"
    "$work/rustc" --version || { rm "$work/rustc"; skip 'the unpacked Rust does not run'; }
    rm -r "$work/debs"
}

missing=()
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu)
[ -e /usr/aarch64-linux-gnu/lib/crt1.o ] || missing+=(libc6-dev-arm64-cross)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
# What Debian's LLVM links.
for package in libedit2 libxml2 libz3-4; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ "${#missing[@]}" != 0 ]; then
    [ "$(id -u)" = 0 ] || skip "Debian packages are missing: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
[ -x "$work/rustc" ] || unpack_rust

export CARGO_TARGET_DIR="$work/target" RUSTC="$work/rustc" CARGO_PROFILE_DEV_DEBUG=false
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# processor, and the instruction set that the engine should choose there
for pair in max:neon-i8mm neoverse-n1:neon-dotprod cortex-a72:neon; do
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu ${pair%:*}"
    export FIRMAMENT_TEST_INSTRUCTION_SET="${pair#*:}"
    echo "on ${pair%:*}:"
    cargo test -p engine --lib --locked --target "$target" -- kernels:: backbone::
done
