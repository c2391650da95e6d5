#!/bin/sh
# Install one locked set of packages and the project into /opt/venv, with its bill of materials.
set -eu
pip="/opt/tools/bin/pip --python /opt/venv/bin/python"
$pip install --require-hashes --only-binary :all: --requirement "docker/requirements/$1.txt"
$pip install --no-deps /dist/*.whl
if [ "$1" != train ]; then  # serving needs neither tests nor what makes graphs
    cd /opt/venv/lib/python3.11/site-packages
    find . -type d -name tests -prune -exec rm -r {} +
    rm -r onnxruntime/datasets onnxruntime/quantization onnxruntime/tools onnxruntime/transformers
    rm onnxruntime/capi/libonnxruntime.so.*  # 29 MB for programs in C; the module for Python has it inside
    $pip uninstall --yes hf-xet  # a faster download of gigabytes, which bundles are not
fi
# The texts of the licences stay in the packages and come along in the bill.
/opt/tools/bin/cyclonedx-py environment --gather-license-texts --output-reproducible --of JSON \
    --output-file /opt/venv/sbom.cdx.json /opt/venv/bin/python
