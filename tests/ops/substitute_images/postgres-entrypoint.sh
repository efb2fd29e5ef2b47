#!/bin/sh
# The parts of the postgres image's entrypoint that the compose file uses: it creates the cluster, the user and the database.
set -eu
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
export PATH
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -E UTF8 --locale=C.UTF-8 -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=trust
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -w -o "-c listen_addresses=" start
    createdb -U "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -w -m fast stop
fi
exec "$@" -c listen_addresses='*'
