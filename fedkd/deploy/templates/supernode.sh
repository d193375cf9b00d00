#!/usr/bin/env bash
# The node of party {{ name }}, in the foreground. `fedkd deploy up` runs this in the background.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./environment.sh
mkdir -p state work
[ -n "${FEDKD_CHECKED:-}" ] || fedkd deploy check .
. ./state/settings.sh # what party.toml says
here=$PWD
cd work
# Flower's executor starts the code of a run; it ends when a connection fails, so start it again.
(
  while kill -0 $$ 2>/dev/null; do
    flower-superexec --parent-pid $$ --runtime-api-address "127.0.0.1:$port" --insecure \
      --superexec-auth-secret-file "$here/executor.secret" || true
    sleep 2
  done
) &
exec flower-supernode \
  --isolation process --superexec-auth-secret-file "$here/executor.secret" \
  --superlink "$server" --root-certificates "$here/ca.crt" \
  --auth-supernode-private-key "$here/node.key" \
  --host 127.0.0.1 --port "$port" \
  --node-config "data-dir='$here/state'"
