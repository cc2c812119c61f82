#!/bin/sh
# Renews `.sqlx/`, the descriptions against which the checked queries are built without a database.
# Run it after a change in `migrations/` or `store/queries/`, and commit what it changes.
# Needs cargo, Python 3 (its sqlite3 module makes the one database) and Debian's package `postgresql`, of which it
# starts a server of its own for the other.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'stop_postgres; rm -rf "$work"' EXIT

as_postgres() { "$@"; }
if [ "$(id -u)" = 0 ]; then # Postgres refuses to run as root
    chown postgres "$work"
    as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
fi
start_postgres() {
    initdb=$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    [ -n "$initdb" ] || { echo 'PostgreSQL is missing: install the package postgresql' >&2; exit 1; }
    pg_ctl="$(dirname "$initdb")/pg_ctl"
    (cd "$work" && as_postgres "$initdb" -D data -U prepare -A trust -E UTF8 --no-sync >initdb.log)
    as_postgres "$pg_ctl" -D "$work/data" -s -w -l "$work/log" -o "-c fsync=off -c listen_addresses='' -k $work" start
}
stop_postgres() {
    [ -f "$work/data/postmaster.pid" ] && as_postgres "$pg_ctl" -D "$work/data" -s -m immediate stop
    return 0
}

# Checks every query for one database alone: the macros ask the one that DATABASE_URL names. `node` is there for its
# reqwest, which has the TLS that object_store's client wants and does not ask for.
describe() {
    touch store/src/lib.rs
    SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$work/queries" DATABASE_URL="$2" \
        cargo check -p store -p node --no-default-features --features "store/$1"
}

# Descriptions land in a fresh folder first: those of deleted queries go, and a failure changes nothing.
mkdir "$work/queries"
python3 - "$work/prepare.db" <<'PYTHON'
import pathlib
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1])
for migration in sorted(pathlib.Path("migrations/sqlite").glob("*.sql")):
    database.executescript(migration.read_text())
database.close()
PYTHON
describe sqlite "sqlite://$work/prepare.db"

start_postgres
cat migrations/postgres/*.sql | psql -q -v ON_ERROR_STOP=1 -h "$work" -U prepare postgres
describe postgres "postgres://prepare@localhost/postgres?host=$work"

rm -rf .sqlx
cp -r "$work/queries" .sqlx
# The build that follows must read the folder just made.
touch store/src/lib.rs
echo "$(ls .sqlx | wc -l) queries described in .sqlx/"
