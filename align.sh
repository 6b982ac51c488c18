#!/bin/sh
# Builds eflomal, the word aligner of `train.py --alignments auto`, in an environment of its own; `make align` calls it. It does
# nothing if the environment is complete. It needs gcc and make. Usage: align.sh PYTHON [FOLDER]     (default: .venv-align)
set -eu
cd "$(dirname "$0")"
unset PYTHONHOME PYTHONPATH
python=$1
folder=${2:-.venv-align}

stop() {
    printf 'align: %s\n' "$*" >&2
    exit 1
}

wanted=$(cksum < requirements-align.txt)
if [ "$(cat "$folder/complete" 2>/dev/null)" = "$wanted" ] && "$folder/bin/eflomal-align" --help >/dev/null 2>&1; then
    exit 0
fi
for program in gcc make; do
    command -v "$program" >/dev/null || stop "building eflomal needs $program: install it (Debian: apt-get install gcc make)"
done
printf 'align: building eflomal in %s (90 MB; a minute)\n' "$folder" >&2
rm -rf "$folder"
"$python" -m venv "$folder"
install() {
    "$folder/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes "$@" >&2 ||
        stop "pip could not install eflomal, see above; call make align again"
}
install -r requirements-pip.txt
# First what its build imports: pip builds it before it installs anything of the same call.
sed '/^eflomal==/,/^    # via/d' requirements-align.txt > "$folder/build.txt"
install --only-binary :all: -r "$folder/build.txt"
install --no-build-isolation -r requirements-align.txt
"$folder/bin/eflomal-align" --help >/dev/null || stop 'eflomal-align does not start, see above'
echo "$wanted" > "$folder/complete"
