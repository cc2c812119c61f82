#!/bin/sh
# Holds the instructions of a fixed prefill and a fixed decode to those recorded in `instructions.txt`.
#   bench/instructions.sh PROGRAM           fails if a count is off by more than the bound
#   bench/instructions.sh PROGRAM --renew   records what it counts; commit it with the change that explains it
# PROGRAM is the example `fixed_work`, built as `test.sh` does. Needs valgrind.
set -eu
recorded="$(dirname "$0")/instructions.txt"
program=$1
# Compilers differ by a few percent, and so do the versions of what is linked.
bound_percent=15
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" "$work"

# Instructions of reading a prompt of $1 tokens and generating $2, with the start.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$work" "$1" "$2" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    awk '$2 == "Collected" { print $4 }' "$work/log"
}

# Differences leave the start out.
start=$(count 16 1)
prefill=$(($(count 80 1) - start))
decode=$(($(count 16 33) - start))

if [ "${2:-}" = --renew ]; then
    {
        echo "# Instructions under callgrind; \`bench/instructions.sh\` checks and renews them."
        echo "prefill of 64 tokens: $prefill"
        echo "decode of 32 tokens: $decode"
    } >"$recorded"
    cat "$recorded"
    exit
fi

failed=0
check() {
    expected=$(sed -n "s/^$1: //p" "$recorded")
    percent=$((100 * ($2 - expected) / expected))
    echo "$1: $2 instructions, $percent % from $expected"
    if [ "$percent" -gt "$bound_percent" ] || [ "$percent" -lt "-$bound_percent" ]; then
        failed=1
    fi
}
check 'prefill of 64 tokens' "$prefill"
check 'decode of 32 tokens' "$decode"
if [ "$failed" = 1 ]; then
    echo "more than $bound_percent % off: find out why; if it is meant, renew and commit $recorded" >&2
    exit 1
fi
