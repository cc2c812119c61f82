#!/bin/sh
# Makes the container image of a binary that was built outside of it, without a network and in a second.
#
#   deploy/image.sh target/release/firmament firmament:local [BASE]
set -eu
[ $# -ge 2 ] || { echo 'usage: deploy/image.sh BINARY IMAGE [BASE]' >&2; exit 2; }
binary=$1 image=$2 base=${3:-debian:bookworm-slim}
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
chmod 0755 "$context"
(
    umask 022
    cd "$context"
    mkdir -p usr/local/bin usr/share/doc/firmament etc/ssl/certs var/lib/firmament/blobs var/lib/firmament/firmwares
    chmod 0700 var/lib/firmament
    cp "$here"/../LICENSE-* usr/share/doc/firmament/
    cp -L /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/
)
strip -o "$context/usr/local/bin/firmament" "$binary"
docker build -q -f "$here/Dockerfile.prebuilt" --build-arg "BASE=$base" -t "$image" "$context"
