#!/bin/sh
# Serve what is mounted under /bundles: a bundle, or folders of them. With nothing there, serve the demo.
set -eu
if [ -z "${ANOMOE_BUNDLES:-}" ]; then
    ANOMOE_BUNDLES=/app/bundles
    for manifest in /bundles/manifest.json /bundles/*/manifest.json; do
        if [ -e "$manifest" ]; then ANOMOE_BUNDLES=/bundles; fi
    done
    export ANOMOE_BUNDLES
fi
# A secret of this name is the file of API keys. Compose mounts the device /dev/null where none was given.
if [ -z "${ANOMOE_API_KEYS_FILE:-}" ] && [ -f /run/secrets/api_keys ]; then
    export ANOMOE_API_KEYS_FILE=/run/secrets/api_keys
fi
exec anomoe "$@"
