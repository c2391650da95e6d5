#!/bin/sh
# Everything of a release in dist/: wheels, wheelhouse, chart, bill of materials, the context of the images, checksums.
# The version is that of pyproject.toml. Base images are pinned by the digests that Docker finds behind their tags;
# without Docker this is refused, or with UNPINNED=1 the tags stay.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
fail() { echo "release: $*" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
grep -q "^## \[$version\]" CHANGELOG.md || fail "CHANGELOG.md: no section [$version]"
[ -z "$(git status --porcelain)" ] || fail "the working tree has changes that are not committed"
rm -rf dist && mkdir dist

# Images: what is committed, with the version that it then is, and digests instead of tags.
context=dist/anomoe-$version-context
git archive --prefix="$context/" HEAD | tar --extract
sed -i "s/^ARG VERSION=.*/ARG VERSION=$version/; s/^ARG REVISION=.*/ARG REVISION=$(git rev-parse HEAD)/" "$context/Dockerfile"
sed -i "s/{VERSION:-[a-z]*}/{VERSION:-$version}/" "$context/docker-compose.yml"
for file in Dockerfile docker-compose.yml; do
    for image in $(grep --only-matching --extended-regexp 'docker\.io/[a-z/]+:[a-z0-9.-]+' "$file"); do
        if [ "${UNPINNED:-}" != 1 ]; then
            digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}') ||
                fail "$image: no digest (UNPINNED=1 keeps the tag)"
            sed -i "s|$image|$image@$digest|" "$context/$file"
        fi
    done
done
tar --create --gzip --directory dist --file "$context.tar.gz" "anomoe-$version-context"
rm -r "$context"

# Wheels: the project and its client, and all that serving needs for machines without a package index.
for project in . clients/python; do
    if [ -f "$project/pyproject.toml" ]; then
        $python -m pip wheel --quiet --no-deps --wheel-dir dist "./$project"
    fi
done
$python -m pip download --quiet --require-hashes --only-binary :all: --requirement docker/requirements/cpu.txt \
    --dest dist/wheelhouse
cp dist/anomoe-*.whl dist/wheelhouse
tar --create --directory dist --file "dist/anomoe-$version-wheelhouse.tar" wheelhouse

# What is in the serving installation, read from one that came from the wheelhouse.
$python -m venv dist/installed && $python -m venv dist/tools
dist/installed/bin/pip install --quiet --no-index --find-links dist/wheelhouse "anomoe[cpu]==$version"
dist/tools/bin/pip install --quiet --require-hashes --requirement docker/requirements/build.txt
dist/tools/bin/cyclonedx-py environment --gather-license-texts --output-reproducible --of JSON \
    --output-file "dist/anomoe-$version.cdx.json" dist/installed/bin/python
dist/tools/bin/pip install --quiet --constraint constraints.txt helm-python-sdk
dist/tools/bin/python -c 'import sys, helm_python
helm_python.package("deploy/helm/anomoe", destination="dist", version=sys.argv[1], app_version=sys.argv[1])' "$version"
rm -r dist/wheelhouse dist/installed dist/tools
cd dist && sha256sum -- * > SHA256SUMS
