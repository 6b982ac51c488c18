#!/bin/sh
# Creates the environment of Keras 3 for `regress.py convert` with CPython 3.11, 3.12 or 3.13; `make keras3` calls it. It does
# nothing if the environment is complete. PYTHON3=/path/to/python3.12 names the interpreter.
# Usage: keras3.sh [FOLDER]     (default: .venv-keras3)
set -eu
cd "$(dirname "$0")"
unset PYTHONHOME PYTHONPATH
folder=${1:-.venv-keras3}

stop() {
    printf 'keras3: %s\n' "$*" >&2
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

wanted=$(cksum < requirements-keras3.txt)
if [ "$(cat "$folder/complete" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
python=$(find_python) || stop "no CPython 3.11, 3.12 or 3.13 (64-bit, with venv and ssl) on PATH or in pyenv: install one," \
    "or name it: make keras3 PYTHON3=/path/to/python3.12"
printf 'keras3: installing the pinned packages into %s (about 1.7 GB on disk; some minutes)\n' "$folder" >&2
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --only-binary :all: --require-hashes \
    -r requirements-keras3.txt >&2 || stop "pip could not install requirements-keras3.txt, see above; call make keras3 again"
echo "$wanted" > "$folder/complete"
