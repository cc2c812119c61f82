#!/bin/sh
# Renews `.sqlx/`, the descriptions against which the checked queries are built without a database.
# Run it after a change in `migrations/` or `store/queries/`, and commit what it changes.
# Needs Python 3 (its sqlite3 module makes the database) and cargo; nothing else.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 - "$work/prepare.db" <<'PYTHON'
import pathlib
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1])
for migration in sorted(pathlib.Path("migrations/sqlite").glob("*.sql")):
    database.executescript(migration.read_text())
database.close()
PYTHON

# Descriptions land in a fresh folder first: those of deleted queries go, and a failure changes nothing.
mkdir "$work/queries"
touch store/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$work/queries" DATABASE_URL="sqlite://$work/prepare.db" cargo check -p store
rm -rf .sqlx
cp -r "$work/queries" .sqlx
# The build that follows must read the folder just made.
touch store/src/lib.rs
echo "$(ls .sqlx | wc -l) queries described in .sqlx/"
