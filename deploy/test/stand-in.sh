#!/bin/sh
# What the entry points of the real images do, as far as docker-compose.yml relies on it.
set -eu

# Postgres: an empty volume becomes a database with a superuser's password, then the scripts of the folder run.
first_start() {
    # shellcheck disable=SC2086 # several options
    initdb -U postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust $POSTGRES_INITDB_ARGS
    pg_ctl -w start -o "-c listen_addresses= -c unix_socket_directories=/var/run/postgresql"
    for script in /docker-entrypoint-initdb.d/*.sh; do
        sh "$script"
    done
    pg_ctl -w -m fast stop
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
}

case "$1" in
    postgres)
        [ -s "$PGDATA/PG_VERSION" ] || first_start
        exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
        ;;
    --config.file=*) exec prometheus "$@" ;;
    *) exec "$@" ;;
esac
