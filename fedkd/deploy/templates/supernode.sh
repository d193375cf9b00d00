#!/usr/bin/env bash
# The node of party {{ name }}, in the foreground. `fedkd deploy up` runs this in the background.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./environment.sh
mkdir -p state work
fedkd deploy check .
here=$PWD
cd work
exec flower-supernode \
  --superlink {{ server }} --root-certificates "$here/ca.crt" \
  --auth-supernode-private-key "$here/node.key" \
  --host 127.0.0.1 --port {{ port }} \
  --node-config "data-dir='$here/state'"
