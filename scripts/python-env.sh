#!/bin/sh
# Makes the Python environment of the course's scripts, once, in .cache/venv of this repository or in the folder given.
#
#   scripts/python-env.sh [FOLDER]
#
# Tests find it in the default folder, or where TOLLSTREAM_PYTHON names its interpreter.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
case "${1-}" in
-h | --help)
	sed -n '2,6s/^# \{0,1\}//p' "$0"
	exit 0
	;;
-*)
	echo "python-env: unknown flag $1: usage: python-env.sh [FOLDER]" >&2
	exit 2
	;;
esac
requirements=$here/../testdata/course/requirements.txt
target=${1:-$here/../.cache/venv}

# The stamp says that the environment is complete, and of which requirements.
if [ -x "$target/bin/python" ] && cmp -s "$requirements" "$target/requirements.txt"; then
	exit 0
fi
if [ -e "$target" ] && [ ! -f "$target/pyvenv.cfg" ]; then
	echo "python-env: $target is no Python environment: name another folder" >&2
	exit 1
fi
rm -rf "$target"
mkdir -p "$(dirname "$target")"
if ! python3 -m venv "$target"; then
	echo "python-env: python3 can't make an environment: install python3 and python3-venv" >&2
	exit 1
fi
"$target/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements"
cp "$requirements" "$target/requirements.txt"
