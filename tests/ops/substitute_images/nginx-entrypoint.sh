#!/bin/sh
# The parts of the nginx image's entrypoint that the frontend image uses: DNS resolvers and templates.
set -eu
NGINX_LOCAL_RESOLVERS=$(awk '$1 == "nameserver" { print ($2 ~ ":") ? "[" $2 "]" : $2 }' /etc/resolv.conf | xargs)
export NGINX_LOCAL_RESOLVERS
names=$(awk "END { for (name in ENVIRON) if (name ~ /${NGINX_ENVSUBST_FILTER}/) printf \"\${%s} \", name }" </dev/null)
for template in /etc/nginx/templates/*.template; do
    envsubst "$names" <"$template" >"$NGINX_ENVSUBST_OUTPUT_DIR/$(basename "$template" .template)"
done
exec "$@"
