#!/bin/sh
# Write the hashes of what the images install: the versions of constraints.txt, for Linux and the Python of the base image.
set -eu
cd "$(dirname "$0")/.."
lock() {
    target=$1; shift
    "$PYTHON" -m uv pip compile --quiet --generate-hashes --no-annotate --no-header \
        --python-version 3.11 --python-platform linux --constraint constraints.txt \
        --output-file "docker/requirements/$target.txt" "$@"
}
lock cpu pyproject.toml --extra cpu
lock train pyproject.toml --extra cpu --extra train --extra pretrained --extra export
echo 'onnxruntime-gpu[cuda,cudnn]' | lock gpu pyproject.toml --extra gpu -
lock build docker/requirements/build.in
