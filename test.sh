#!/usr/bin/env bash
# Every check of this repository: what the tests need, style, lints, documentation, dependencies, tests.
# Run as root on Debian it installs what is missing; else it says what is. Arguments choose steps by name.
set -euo pipefail
cd "$(dirname "$0")"
export RUST_BACKTRACE="${RUST_BACKTRACE:-1}"
# A first build is quicker and smaller without what only later ones would use again.
[ -d target/debug ] || export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
# One place for the real firmware, so that it is fetched once for all tests.
export FIRMAMENT_TEST_DATA="${FIRMAMENT_TEST_DATA:-$PWD/target/firmware-cache}"
TOOLS="$PWD/target/tools"
LOG="$PWD/target/test.log"
DENY_VERSION=0.20.2
MOTO_VERSION=5.2.5

say() { printf '\n== %s\n' "$*"; }

# The tests start a Postgres of their own: Debian's package shall not set up and start another one.
no_postgres_service() {
    [[ " ${missing[*]} " == *" postgresql "* ]] || return 0
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/firmament.conf
}

# The same for Prometheus, whose package would start one on every boot.
no_prometheus_service() {
    [[ " ${missing[*]} " == *" prometheus "* ]] || return 0
    [ -e /etc/systemd/system/prometheus.service ] && return 0
    mkdir -p /etc/systemd/system
    ln -s /dev/null /etc/systemd/system/prometheus.service
}

# Debian packages for the commands that are missing.
needs() {
    local missing=()
    command -v cc >/dev/null || missing+=(build-essential)
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    command -v valgrind >/dev/null || missing+=(valgrind)
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v prometheus >/dev/null || missing+=(prometheus)
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    [ "${#missing[@]}" = 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        no_postgres_service
        no_prometheus_service
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing Debian packages: ${missing[*]}; install them and run again" >&2
        exit 1
    fi
}

style() {
    say style
    cargo fmt --all --check
}

lints() {
    say lints
    cargo clippy --workspace --all-targets --features engine/bench --locked -- -D warnings
    # A slim build: no gateway, no store.
    cargo clippy -p firmament --no-default-features --features device-agent --locked -- -D warnings
}

documentation() {
    say documentation
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
}

# Licences, sources and bans are checked always. Advisories need a public database: where it cannot be
# reached this says so, and the release may not be made there.
dependencies() {
    say dependencies
    export PATH="$TOOLS/bin:$PATH"
    if ! cargo deny --version 2>/dev/null | grep -qF "$DENY_VERSION"; then
        say "building cargo-deny $DENY_VERSION, once"
        cargo install --quiet --debug --locked --root "$TOOLS" --version "$DENY_VERSION" cargo-deny
    fi
    cargo deny --locked check bans licenses sources
    if cargo deny --locked fetch db >/dev/null 2>&1; then
        cargo deny --locked check advisories
    else
        echo 'advisories were NOT checked: their database cannot be reached from here' >&2
    fi
}

# A server that speaks S3, for the tests of buckets.
s3() {
    local python="$PWD/target/python-s3"
    [ "$("$python/bin/python" -m pip show moto 2>/dev/null | sed -n 's/^Version: //p')" != "$MOTO_VERSION" ] || return 0
    say "installing an S3 server for the tests"
    [ -x "$python/bin/python" ] || python3 -m venv "$python"
    "$python/bin/python" -m pip install -q --disable-pip-version-check "moto[s3,server]==$MOTO_VERSION"
}

tests() {
    say tests
    s3
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --workspace --locked --no-fail-fast 2>&1 | tee -a "$LOG"
        cargo test --workspace --locked --doc 2>&1 | tee -a "$LOG"
    else
        cargo test --workspace --locked --no-fail-fast 2>&1 | tee -a "$LOG"
    fi
}

# Guards the kernels and the step loop against work that creeps in: counted, so neighbours cannot disturb it.
# The engine is built a second time, without the assertions of a test build; all else is shared with the tests.
instructions() {
    say instructions
    if [ "$(uname -m)" != x86_64 ]; then
        echo 'instructions were NOT counted: those on record are of x86-64' >&2
        return
    fi
    cargo build --workspace --example fixed_work --locked \
        --config profile.dev.package.engine.debug-assertions=false \
        --config profile.dev.package.engine.overflow-checks=false
    bench/instructions.sh target/debug/examples/fixed_work
}

# The program, built as the tests build it, so that what stands is used again.
program() {
    cargo build --workspace --tests --locked
}

# The real `openai` package against the real binary with the real default firmware.
client() {
    say client
    program
    local python="$PWD/target/python/bin/python"
    [ -x "$python" ] || python3 -m venv "$PWD/target/python"
    "$python" -m pip install -q --disable-pip-version-check -r testkit/python/requirements.txt
    "$python" testkit/python/against_binary.py target/debug/firmament "$FIRMAMENT_TEST_DATA" 2>&1 |
        tee -a "$LOG"
}

# The kernels on 64-bit ARM, under emulation. Not among the steps that always run: its first build is long.
arm() {
    say arm
    deploy/arm-tests.sh 2>&1 | tee -a "$LOG"
}

# The cluster of deploy/ in containers, where a Docker engine answers, and the manifests of Kubernetes.
compose() {
    say compose
    program
    FIRMAMENT_BINARY="$PWD/target/debug/firmament" deploy/compose-test.sh 2>&1 | tee -a "$LOG"
    deploy/kubernetes-check.sh
}

# Adds up what the steps said: `12 passed` of cargo, nextest and the client's checks.
count() {
    sed 's/\x1b\[[0-9;]*m//g' "$LOG" | awk -v word="$1" '
        / passed/ {
            for (i = 2; i <= NF; i++) if ($i ~ "^" word "[,;.]?$") sum += $(i - 1)
        }
        END { print sum + 0 }'
}

mkdir -p target
: >"$LOG"
needs
[ $# = 0 ] && set -- style lints documentation dependencies tests instructions client compose
for step in "$@"; do
    "$step"
done
say "steps passed: $*"
echo "tests: $(count passed) passed, $(count failed) failed"
