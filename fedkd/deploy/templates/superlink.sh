#!/usr/bin/env bash
# The server, in the foreground. `fedkd deploy up` runs this in the background.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./environment.sh
mkdir -p state work
fedkd deploy check .
here=$PWD
# Python looks for code in the current folder, so this one holds results and nothing else.
cd work
exec flower-superlink \
  --host {{ bind }} --port {{ port }} \
  --ssl-ca-certfile "$here/ca.crt" --ssl-certfile "$here/server.crt" \
  --ssl-keyfile "$here/server.key" \
  --enable-supernode-auth \
  --database "$here/state/superlink.db" \
  --disable-runtime-dependency-installation
