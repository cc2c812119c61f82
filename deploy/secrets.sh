#!/bin/sh
# Makes the secrets of docker-compose.yml in deploy/secrets, or in the directory that is named. Files that are there
# stay as they are: delete one and run this again for a new one, then `docker compose up -d` (README.md, "Secrets").
#
# Each file has one reader. Run by root it belongs to that reader's user alone. Run by anybody else only the directory
# guards the files: containers see single files of it, and nobody else may enter it.
set -eu
umask 077
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
cd "$directory"
chmod 0700 .

# The users of the images.
firmament=10001 postgres=999 redis=999 prometheus=65534 grafana=472

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
printf 'fmt1.%s.%s' "$(random 12)" "$(random 32)" | keep worker_token $firmament
printf 'fmt1.%s.%s' "$(random 12)" "$(random 32)" | keep device_token $firmament
random 16 | keep grafana_password $grafana
