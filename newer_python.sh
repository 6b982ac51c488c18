#!/bin/sh
# Creates an environment with CPython 3.11, 3.12 or 3.13 and the packages of a lock file; `make keras3` and `make site` call it.
# It does nothing if the environment is complete. PYTHON3=/path/to/python3.12 names the interpreter.
# Usage: newer_python.sh FOLDER REQUIREMENTS
set -eu
cd "$(dirname "$0")"
unset PYTHONHOME PYTHONPATH
folder=$1
requirements=$2

stop() {
    printf '%s: %s\n' "$folder" "$*" >&2
    exit 1
}

find_python() {
    probe='import ensurepip, ssl, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.maxsize < 2 ** 32)'
    pyenv_root=$(pyenv root 2>/dev/null) || pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}
    for candidate in ${PYTHON3:-python3.12 python3.11 python3.13 python3 "$pyenv_root"/versions/3.1[123]*/bin/python3}; do
        "$candidate" -c "$probe" 2>/dev/null && command -v "$candidate" && return
    done
    return 1
}

wanted=$(cksum < "$requirements")
if [ "$(cat "$folder/complete" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
python=$(find_python) || stop "no CPython 3.11, 3.12 or 3.13 (64-bit, with venv and ssl) on PATH or in pyenv: install one," \
    "or name it: PYTHON3=/path/to/python3.12"
printf '%s: installing the packages of %s\n' "$folder" "$requirements" >&2
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --only-binary :all: --require-hashes \
    -r "$requirements" >&2 || stop "pip could not install $requirements, see above; call make again"
echo "$wanted" > "$folder/complete"
