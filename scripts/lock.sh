#!/usr/bin/env bash
# Resolve requirements.in into requirements.lock for Linux with CPython 3.11.
#
# uv reads no pip.conf, so it is told where torch's CPU wheel is: without that it would pin the CUDA packages.
# The lock itself names plain `torch==X`, which is valid wherever the wheel comes from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
links="${PIP_FIND_LINKS:-https://download.pytorch.org/whl/cpu/torch/}"
uv="${UV:-uv}"
command -v "$uv" >/dev/null || { echo "uv is missing: pip install uv, or name one with UV=/path/to/uv"; exit 1; }

new=requirements.lock.part
trap 'rm -f "$new"' EXIT
# versions already in the lock are kept unless requirements.in forbids them; UPGRADE=1 takes the newest
if [ -z "${UPGRADE:-}" ] && [ -f requirements.lock ]; then
    sed 's/^\(torch==[0-9.]*\)$/\1+cpu/' requirements.lock >"$new"
fi
"$uv" pip compile -q requirements.in --python-version 3.11 --find-links "$links" --no-header -o "$new"
if grep -qE '^nvidia-' "$new"; then
    echo "torch was resolved with its CUDA packages: set PIP_FIND_LINKS to a folder or page that holds the CPU wheel"
    exit 1
fi
sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' "$new"
mv "$new" requirements.lock
