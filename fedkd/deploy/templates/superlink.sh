#!/usr/bin/env bash
# The server, in the foreground. `fedkd deploy up` runs this in the background.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./environment.sh
mkdir -p state work
[ -n "${FEDKD_CHECKED:-}" ] || fedkd deploy check .
. ./state/settings.sh # what server.toml says
here=$PWD
# Python looks for code in the current folder, so this one holds results and nothing else.
cd work
# Flower's executor starts the code of a run; it ends when a connection fails, so start it again.
(
  while kill -0 $$ 2>/dev/null; do
    flower-superexec --parent-pid $$ --runtime-api-address "$executor" --root-certificates "$here/ca.crt" \
      --superexec-auth-secret-file "$here/executor.secret" || true
    sleep 2
  done
) &
exec flower-superlink \
  --isolation process --superexec-auth-secret-file "$here/executor.secret" \
  --host "$bind" --port "$port" \
  --ssl-ca-certfile "$here/ca.crt" --ssl-certfile "$here/server.crt" \
  --ssl-keyfile "$here/server.key" \
  --enable-supernode-auth \
  --database "$here/state/superlink.db" \
  --disable-runtime-dependency-installation
