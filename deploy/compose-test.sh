#!/usr/bin/env bash
# The whole of docker-compose.yml on this machine's Docker engine: images from Debian's packages (no registry is
# asked), up, requests through the one port, metrics in Prometheus, hardening, a crash, down. Leaves only cached images.
#
#   FIRMAMENT_BINARY  the binary to put into the image; built if not said
#   FIRMWARE_DIR      data directory that keeps the fetched firmware (default: FIRMAMENT_TEST_DATA, else in target/)
#
# Grafana's and the OpenTelemetry collector's programs are in no Debian package: those services are NOT run here.
set -euo pipefail
for named in FIRMAMENT_BINARY FIRMWARE_DIR FIRMAMENT_TEST_DATA; do
    [ -z "${!named:-}" ] || printf -v "$named" %s "$(realpath -m "${!named}")"
done
cd "$(dirname "$0")"
work="$PWD/../target/compose-test"
project=firmament-compose-test
firmware_dir=${FIRMWARE_DIR:-${FIRMAMENT_TEST_DATA:-$PWD/../target/firmware-cache}}
healthy_max=60

say() { printf '== compose: %s\n' "$*"; }
not_run() {
    printf '\n!! the compose test was NOT run: %s\n\n' "$*" >&2
    exit 0
}

[ "$(uname -s)" = Linux ] || not_run 'it needs Linux'
timeout 20 docker info >/dev/null 2>&1 || not_run 'no Docker engine answers'
if docker compose version >/dev/null 2>&1; then
    program=(docker compose)
elif command -v docker-compose >/dev/null; then
    program=(docker-compose)
else
    not_run 'there is neither docker compose nor docker-compose'
fi
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
grep -q '^ID=debian' /etc/os-release || not_run 'its images are made of the packages of a Debian machine'
if ! command -v mmdebstrap >/dev/null; then
    [ "$(id -u)" = 0 ] || not_run 'the Debian package mmdebstrap is missing'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap
fi
mkdir -p "$work"
export FIRMAMENT_IMAGE=firmament-test/firmament
for other in POSTGRES REDIS HAPROXY PROMETHEUS; do
    export "${other}_IMAGE=firmament-test/stand-in"
done
export COMPOSE_PROJECT_NAME=$project COMPOSE_IGNORE_ORPHANS=true DOCKER_BUILDKIT=0
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
FIRMAMENT_PORT=$(free_port) PROMETHEUS_PORT=$(free_port)
export FIRMAMENT_PORT PROMETHEUS_PORT FIRMAMENT_BIND=127.0.0.1

# NAME PACKAGES: a root file system of Debian's packages as an image, made anew each month.
debian() {
    local label found
    label="$suite $(date +%Y-%m) $2"
    found=$(docker image inspect -f '{{index .Config.Labels "firmament.test"}}' "$1" 2>/dev/null || true)
    [ "$found" != "$label" ] || return 0
    say "making $1 of Debian's packages"
    mmdebstrap --quiet --variant=essential --include="$2" --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/root.tar"
    docker import -c "LABEL firmament.test=\"$label\"" "$work/root.tar" "$1" >/dev/null
    rm "$work/root.tar"
}

images() {
    debian firmament-test/base ca-certificates
    debian firmament-test/services postgresql,redis-server,prometheus,haproxy
    docker build -q --build-arg BASE=firmament-test/services -t firmament-test/stand-in test >/dev/null
    if [ -z "${FIRMAMENT_BINARY:-}" ]; then
        (cd .. && cargo build --locked -p firmament)
        FIRMAMENT_BINARY="$PWD/../target/debug/firmament"
    fi
    ./image.sh "$FIRMAMENT_BINARY" "$FIRMAMENT_IMAGE" firmament-test/base >/dev/null
    say "image of $(docker image inspect -f '{{.Size}}' "$FIRMAMENT_IMAGE") bytes on a base of" \
        "$(docker image inspect -f '{{.Size}}' firmament-test/base)"
}

files=(-f docker-compose.yml -f test/override.yml)
compose() { "${program[@]}" "${files[@]}" "$@"; }

clean() {
    local label="label=com.docker.compose.project=$project"
    docker ps -aq --filter "$label" | xargs -r docker rm -fv >/dev/null
    docker volume ls -q --filter "$label" | xargs -r docker volume rm -f >/dev/null
    docker network ls -q --filter "$label" | xargs -r docker network rm >/dev/null
}

ended() {
    local status=$?
    if [ "$status" != 0 ]; then
        say 'FAILED; the last lines of each service:' >&2
        compose ps >&2 || true
        compose logs --no-color --tail=30 >&2 || true
    fi
    clean
    exit "$status"
}

# Containers have no way out of here: the firmware is brought.
firmware() {
    "$FIRMAMENT_BINARY" --data "$firmware_dir" firmware pull >/dev/null
    docker volume create --label com.docker.compose.project=$project --label com.docker.compose.volume=firmwares \
        ${project}_firmwares >/dev/null
    docker run --rm --network none --user 0:0 -v ${project}_firmwares:/to \
        -v "$(realpath "$firmware_dir")/firmwares:/from:ro" --entrypoint /bin/sh "$FIRMAMENT_IMAGE" \
        -c 'cp -r /from/. /to/ && chown -R 10001:10001 /to'
}

service() { docker ps -q --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
health() { docker inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$@"; }

# SERVICE...: until each is healthy, or runs where it has no health check.
wait_healthy() {
    local deadline=$((SECONDS + healthy_max)) states
    while :; do
        states=$(for name in "$@"; do health "$(service "$name")" 2>/dev/null || echo missing; done)
        if ! grep -qvE '^(healthy|running)$' <<<"$states"; then
            return 0
        fi
        [ $SECONDS -lt $deadline ] || { say "not healthy after $healthy_max s: $*: $states" >&2; return 1; }
        sleep 0.5
    done
}

# What README.md promises of every container, under "Hardening".
hardening() {
    local id
    for id in $(docker ps -aq --filter "label=com.docker.compose.project=$project"); do
        docker inspect "$id" | python3 test/hardening.py
    done
    ! docker history --no-trunc --format '{{.CreatedBy}}' "$FIRMAMENT_IMAGE" | grep -iE 'fm[kt][1_.]|password|secret' ||
        { say 'the history of the image names a secret' >&2; return 1; }
    # It runs with no network, no writable file and no user of its own name.
    docker run --rm --network none --read-only --cap-drop ALL "$FIRMAMENT_IMAGE" --version >/dev/null
}

images
# Engines that may not raise the limit of open files are asked for what they have; HAProxy wants 16406.
NOFILE_MAX=$(docker run --rm --network none firmament-test/base sh -c 'ulimit -Hn')
[ "$NOFILE_MAX" != unlimited ] && [ "$NOFILE_MAX" -lt 65536 ] || NOFILE_MAX=65536
export NOFILE_MAX
trap ended EXIT
clean
secrets="$work/secrets"
rm -rf "$secrets"
FIRMAMENT=$FIRMAMENT_BINARY ./secrets.sh "$secrets" >/dev/null
# The same file, with these secrets.
sed "s|file: ./secrets/|file: $secrets/|" docker-compose.yml >"$work/docker-compose.yml"
files=(--project-directory "$PWD" -f "$work/docker-compose.yml" -f test/override.yml)
gateways=(gateway-1 gateway-2)
services=(postgres redis "${gateways[@]}" scheduler worker device proxy prometheus)

for profiles in '' otel; do
    for more in '' '-f docker-compose.gpu.yml'; do
        # shellcheck disable=SC2086 # a flag and its value, or nothing
        COMPOSE_PROFILES=$profiles "${program[@]}" -f docker-compose.yml $more config -q
    done
done
firmware
say 'up'
began=$SECONDS
compose up -d >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
wait_healthy "${services[@]}"
took=$((SECONDS - began))
say "healthy after $took s"
[ $took -le $healthy_max ] || { say "that is more than $healthy_max s" >&2; exit 1; }

admin_key=$(cat "$secrets/admin_key")
checks() {
    FIRMAMENT_API_KEY=$admin_key FIRMAMENT_URL="https://127.0.0.1:$FIRMAMENT_PORT" \
        SSL_CERT_FILE="$secrets/cluster_ca" \
        PROMETHEUS_URL="http://127.0.0.1:$PROMETHEUS_PORT" \
        python3 test/checks.py "$@"
}
checks requests "${#gateways[@]}"
hardening
checks prometheus "${gateways[@]}"

say 'a gateway crashes and comes back'
docker kill -s KILL "$(service gateway-1)" >/dev/null
"${program[@]}" "${files[@]}" up -d >"$work/again.log" 2>&1 || { cat "$work/again.log" >&2; exit 1; }
wait_healthy "${services[@]}"
checks again
say 'Redis loses its memory, Postgres is started again'
compose restart redis postgres >/dev/null 2>&1
wait_healthy "${services[@]}"
checks again
say 'down and up: adapters, keys and nodes are still there'
compose down >/dev/null 2>&1
compose up -d >"$work/again.log" 2>&1 || { cat "$work/again.log" >&2; exit 1; }
wait_healthy "${services[@]}"
checks again
compose down -v >/dev/null 2>&1
[ -z "$(docker volume ls -q --filter "label=com.docker.compose.project=$project")" ] ||
    { say 'down -v left volumes' >&2; exit 1; }
say 'NOT tested here: Grafana and the OpenTelemetry collector (no package has them), GPUs, pulled images' >&2
say 'passed'
