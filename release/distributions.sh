#!/bin/sh
# Builds wheel and source distribution of every distribution into a directory, and checks them.
#
# usage: release/distributions.sh DIRECTORY
set -eu
target=$1
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/tools"
"$scratch/tools/bin/pip" --quiet --disable-pip-version-check install build==1.6.1 twine==7.0.0
for project in oubliette_*/pyproject.toml; do
    "$scratch/tools/bin/python" -m build --outdir "$target" "${project%/*}"
done
"$scratch/tools/bin/twine" check --strict "$target"/*
