#!/bin/sh
# Makes the virtual environment of this checkout, exactly as requirements.lock says, and stamps it when it is whole.
set -eu
venv=$1
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  say "Lockstep needs Python >= 3.11; '$python' is not. Name another one: make PYTHON=python3.12 …"; exit 1; }
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
  say "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
[ -e /usr/share/zoneinfo/UTC ] || {
  say "PostgreSQL needs the time zone files. On Debian and Ubuntu: apt-get install tzdata"; exit 1; }

# An environment that was made elsewhere or by a Python that has gone cannot be mended, only made anew.
if [ -d "$venv" ] && ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then rm -rf "$venv"; fi
[ -d "$venv" ] || { say "Setting up $venv (once, about two minutes) …"; "$python" -m venv "$venv"; }
rm -f "$venv/.ready"
# The lock is complete. Older versions of pip, looking for dependencies themselves, would find newer ones than it names.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$venv/.ready"
