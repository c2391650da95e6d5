#!/bin/sh
# Serve what is mounted under /bundles: a bundle, or folders of them. With nothing there, serve the demo.
set -eu
umask 002  # another user id of group 0 may go on with the state
if [ -z "${ANOMOE_BUNDLES:-}" ]; then
    # What cannot be read or holds no bundle is refused at the start: nobody who mounts bundles is given the demo's verdicts.
    if content=$(ls -A /bundles) && [ -z "$content" ]; then ANOMOE_BUNDLES=/app/bundles; else ANOMOE_BUNDLES=/bundles; fi
    export ANOMOE_BUNDLES
fi
# A secret of this name is the file of API keys. Compose mounts the device /dev/null where none was given. The folder that Docker
# mounts in place of a file that is not there is refused at the start.
secret=/run/secrets/api_keys
if [ -z "${ANOMOE_API_KEYS_FILE:-}" ] && [ -e "$secret" ] && ! [ -c "$secret" ]; then
    export ANOMOE_API_KEYS_FILE="$secret"
fi
exec anomoe "$@"
