#!/bin/sh
# Makes the secrets of docker-compose.yml in deploy/secrets, or in the directory that is named. Files that are there
# stay as they are: delete one and run this again for a new one, then `docker compose up -d` (README.md, "Secrets").
#
# Nodes and gateways know each other by an authority of the cluster's own, which lies in `ca` beside them and in no
# container. It and its certificates, which end after 90 days, are made by `firmament` or by `openssl`, whichever is
# there; FIRMAMENT names the first. The certificates are made out to GATEWAY_NAMES and PROXY_NAMES.
#
# Each file has one reader. Run by root it belongs to that reader's user alone. Run by anybody else only the directory
# guards the files: containers see single files of it, and nobody else may enter it.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
directory=${1:-$here/secrets}
. "$here/certificates.sh"
mkdir -p "$directory"
cd "$directory"
chmod 0700 .

# The users of the images.
firmament=10001 postgres=999 redis=999 proxy=99 prometheus=65534 grafana=472
gateway_names=${GATEWAY_NAMES:-gateway-1,gateway-2,localhost}
proxy_names=${PROXY_NAMES:-localhost,127.0.0.1}

random() { od -An -v -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

# NAME READER: keeps what comes in, unless the file is there.
keep() {
    if [ ! -s "$1" ]; then
        cat >"$1.new"
        mv "$1.new" "$1"
        echo "made $directory/$1"
    fi
    if [ "$(id -u)" = 0 ]; then
        chown "$2:$2" "$1"
        chmod 0400 "$1"
    else
        chmod 0444 "$1"
    fi
}

# The key may be elsewhere by now, and the rest of `ca` with it.
[ -s ca/ca.crt ] || { [ -s cluster_ca ] && mkdir -p ca && cat cluster_ca >ca/ca.crt; } || authority
keep cluster_ca $firmament <ca/ca.crt # for everybody who dials a gateway
chmod 0444 cluster_ca
[ -s gateway_cert ] && [ -s gateway_key ] || {
    rm -f gateway_cert gateway_key
    issue gateway "$gateway_names"
    keep gateway_cert $firmament <ca/gateway.crt
    keep gateway_key $firmament <ca/gateway.key
}
[ -s proxy_pem ] || {
    issue proxy "$proxy_names"
    cat ca/proxy.crt ca/proxy.key | keep proxy_pem $proxy
}
pin=$(fingerprint)

random 32 | keep postgres_password $postgres # of the superuser
random 32 | keep registry_password $postgres # of Firmament's own role
printf 'postgres://firmament:%s@postgres:5432/firmament' "$(cat registry_password)" | keep registry_url $firmament

[ -s redis_acl ] && [ -s live_url ] || {
    rm -f redis_acl live_url
    password=$(random 32)
    printf 'redis://firmament:%s@redis:6379/0' "$password" | keep live_url $firmament
    {
        echo 'user default on nopass resetkeys resetchannels -@all +ping'
        printf 'user firmament on #%s ~* &* +@all -@admin -@dangerous\n' \
            "$(printf %s "$password" | sha256sum | cut -d' ' -f1)"
    } | keep redis_acl $redis
}

random 32 | keep cluster_secret $firmament # between gateways and scheduler
printf 'fmk_%s_%s' "$(random 6)" "$(random 32)" | keep admin_key $firmament
printf 'fmk_%s_%s' "$(random 6)" "$(random 32)" | keep metrics_key $firmament
rm -f prometheus_token # always what the line above says
keep prometheus_token $prometheus <metrics_key >/dev/null
random 32 | keep scrape_token $firmament # what nodes and the scheduler ask Prometheus for
rm -f prometheus_scrape_token
keep prometheus_scrape_token $prometheus <scrape_token >/dev/null
# With the authority's fingerprint, by which a node knows its gateway from the start.
printf 'fmt1.%s.%s.%s' "$(random 12)" "$(random 32)" "$pin" | keep worker_token $firmament
printf 'fmt1.%s.%s.%s' "$(random 12)" "$(random 32)" "$pin" | keep device_token $firmament
random 16 | keep grafana_password $grafana
