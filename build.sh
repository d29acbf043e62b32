#!/bin/sh
# Builds the images of the container types "base" and "dev" on this machine.
#
# usage: ./build.sh [OPTIONS]      what is given goes to both builds: --no-cache, --build-arg PARENT=...
#
# $BUILDER is docker or podman, where it is not to be the first one found; $TAG the tag, where not "latest".
set -eu
cd "$(dirname "$0")"

TAG=${TAG:-latest}

find_builder() {
    for name in ${BUILDER:-docker podman}; do
        if command -v "$name" >/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    echo "build.sh: neither docker nor podman is here; install one of them, and see that it runs: docker info" >&2
    return 1
}

# Apple's `container` has images of its own.
load_into_container() {
    archive=$(mktemp -d)
    trap 'rm -rf "$archive"' EXIT
    "$builder" save --output "$archive/images.tar" "oubliette-base:$TAG" "oubliette-dev:$TAG"
    container image load --input "$archive/images.tar"
}

builder=$(find_builder)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
"$builder" build --build-arg "REVISION=$revision" --tag "oubliette-base:$TAG" "$@" containers/base
"$builder" build --build-arg "REVISION=$revision" --build-arg "BASE_IMAGE=oubliette-base:$TAG" \
    --tag "oubliette-dev:$TAG" "$@" containers/dev
if command -v container >/dev/null; then
    load_into_container
fi

cat <<TEXT

Built oubliette-base:$TAG and oubliette-dev:$TAG. Run projects on them:

  export OUBLIETTE_DEV=1          images are taken as they are here, and nothing is pulled
  oubliette init
  oubliette project create demo --type dev
  oubliette container start demo
TEXT
