#!/bin/sh
# Run once by the image, in an empty database server: Firmament's own role and database. It is no superuser.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/registry_password)" -U postgres -d postgres <<'SQL'
create role firmament login password :'password';
create database firmament owner firmament;
revoke connect on database firmament from public;
SQL
