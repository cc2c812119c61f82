#!/bin/sh
# Every check of this repository: what the tests need, style, lints, documentation, dependencies, tests.
# Run as root on Debian it installs what is missing; else it says what is. Arguments choose steps by name.
set -eu
cd "$(dirname "$0")"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}" RUST_BACKTRACE="${RUST_BACKTRACE:-1}"
# One place for the real firmware, so that it is fetched once for all tests.
export FIRMAMENT_TEST_DATA="${FIRMAMENT_TEST_DATA:-$PWD/target/firmware-cache}"
TOOLS="$PWD/target/tools"
NEXTEST_VERSION=0.9.114
DENY_VERSION=0.20.2

say() { printf '\n== %s\n' "$*"; }

# Debian packages for the commands that are missing.
needs() {
    missing=''
    command -v cc >/dev/null || missing="$missing build-essential"
    command -v python3 >/dev/null || missing="$missing python3"
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
    [ -z "$missing" ] && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing$missing"
        apt-get update -qq
        # shellcheck disable=SC2086 # the names are words
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    else
        echo "missing:$missing (Debian packages); install them and run again" >&2
        exit 1
    fi
}

# A pinned cargo tool, built once into target/tools.
tool() {
    PATH="$TOOLS/bin:$PATH"
    export PATH
    if ! "$1" --version 2>/dev/null | grep -qF "$2"; then
        say "building $1 $2 (once)"
        cargo install --quiet --locked --root "$TOOLS" --version "$2" "$1"
    fi
}

style() {
    say style
    cargo fmt --all --check
}

lints() {
    say lints
    cargo clippy --workspace --all-targets --locked -- -D warnings
    # A slim build: no gateway, no store.
    cargo clippy -p firmament --no-default-features --features device-agent --locked -- -D warnings
}

documentation() {
    say documentation
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked
}

# Licences, sources and bans need no network beyond crates.io; advisories come from a public database.
dependencies() {
    say dependencies
    tool cargo-deny "$DENY_VERSION"
    cargo deny --locked check bans licenses sources
    if ! cargo deny --locked check advisories; then
        if curl -fsI --max-time 20 https://github.com/RustSec/advisory-db >/dev/null 2>&1; then
            exit 1
        fi
        echo 'advisories NOT CHECKED: the database cannot be reached from here' >&2
    fi
}

tests() {
    say tests
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --workspace --locked
        cargo test --workspace --doc --locked
    else
        cargo test --workspace --locked
    fi
}

# The real `openai` package against the real binary with the real default firmware.
client() {
    say client
    cargo build -p firmament --locked
    venv="$PWD/target/python"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r testkit/python/requirements.txt
    "$venv/bin/python" testkit/python/against_binary.py target/debug/firmament "$FIRMAMENT_TEST_DATA"
}

needs
if [ $# = 0 ]; then
    set -- style lints documentation dependencies tests client
fi
for step in "$@"; do
    "$step"
done
say "all steps passed: $*"
