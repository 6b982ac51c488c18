#!/bin/sh
# Creates .venv with CPython 3.6 and installs the pinned packages there; `make setup` calls it. It does nothing if .venv
# is complete, and starts again if an earlier call was interrupted. PYTHON36=/path/to/python3.6 names the interpreter.
# With BOOTSTRAP=1, where there is no CPython 3.6 and no conda, it downloads micromamba, which installs CPython into .venv.
set -eu
cd "$(dirname "$0")"
unset PYTHONHOME PYTHONPATH

# The file of BOOTSTRAP=1. Another release, or a mirror: set both variables in the environment.
: "${MICROMAMBA_URL:=https://github.com/mamba-org/micromamba-releases/releases/download/2.9.0-0/micromamba-linux-64}"
: "${MICROMAMBA_SHA256:=366cd9cd8be14df1ab8ed50352a82111082a36686b2d389fdb79a92c3fafb3e3}"

say() {
    printf 'setup: %s\n' "$*" >&2
}

stop() {
    say "$*"
    exit 1
}

complete() {
    [ "$(cat .venv/complete 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null
}

# Prints the machine and the base interpreter of a candidate: the interpreter of a virtual environment may be in .venv itself.
probe='
import ensurepip, os, platform, ssl, sys, venv
if sys.version_info[:2] != (3, 6) or platform.python_implementation() != "CPython" or sys.maxsize < 2 ** 32:
    sys.exit(1)
base = os.path.join(sys.base_prefix, "bin", "python3.6")
print(platform.machine(), base if os.access(base, os.X_OK) else sys.executable)
'

find_python() {
    if [ -n "${PYTHON36:-}" ]; then
        "$PYTHON36" -c "$probe" 2>/dev/null
        return
    fi
    pyenv_root=$(pyenv root 2>/dev/null) || pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}
    for candidate in python3.6 python3 python "$pyenv_root"/versions/3.6*/bin/python3.6; do
        "$candidate" -c "$probe" 2>/dev/null && return
    done
    return 1
}

find_conda() {
    for candidate in micromamba mamba conda "${MAMBA_EXE:-}" "${CONDA_EXE:-}"; do
        command -v "$candidate" && return
    done
    return 1
}

# Nothing outside the checkout is written: the program and its cache are in .bootstrap, which goes at the end.
download_micromamba() {
    [ "$(uname -s)" = Linux ] || stop "BOOTSTRAP=1 is for Linux: install micromamba or conda, and call make again"
    rm -rf .bootstrap
    mkdir .bootstrap
    conda=$PWD/.bootstrap/micromamba
    export MAMBA_ROOT_PREFIX="$PWD/.bootstrap/root"
    say "downloading $MICROMAMBA_URL"
    if command -v curl > /dev/null; then
        curl --fail --silent --show-error --location --retry 2 --output "$conda" "$MICROMAMBA_URL" >&2
    elif command -v wget > /dev/null; then
        wget --no-verbose --tries 3 --output-document "$conda" "$MICROMAMBA_URL" >&2
    else
        stop "BOOTSTRAP=1 needs curl or wget"
    fi || stop "the download failed, see above; call it again, or set MICROMAMBA_URL and MICROMAMBA_SHA256"
    if command -v sha256sum > /dev/null; then
        found=$(sha256sum "$conda")
    else
        found=$(shasum -a 256 "$conda")
    fi
    [ "${found%% *}" = "$MICROMAMBA_SHA256" ] ||
        stop "$MICROMAMBA_URL has the SHA-256 ${found%% *}, not MICROMAMBA_SHA256=$MICROMAMBA_SHA256: nothing was run"
    chmod +x "$conda"
}

# Only the conda part of environment.yml: pip installs the packages with their hashes, as everywhere.
make_conda_environment() {
    say "no CPython 3.6 on PATH or in pyenv: creating an environment with $1"
    sed '/- pip:/,$d' environment.yml > "$temporary/environment.yml"
    case $1 in
        *micromamba*) "$1" create --yes --prefix "$PWD/.venv" --file "$temporary/environment.yml" ;;
        *)
            CONDA_ALWAYS_YES=1 MAMBA_ALWAYS_YES=1 \
                "$1" env create --prefix "$PWD/.venv" --file "$temporary/environment.yml"
            ;;
    esac >&2 || stop "$1 could not create the environment, see above. Docker is another way: make image"
}

make_environment() {
    rm -rf .venv
    machine=$(uname -m)
    if found=$(find_python); then
        machine=${found%% *}
    elif [ -n "${PYTHON36:-}" ]; then
        stop "PYTHON36=$PYTHON36 is not a 64-bit CPython 3.6 with the modules venv, ensurepip and ssl"
    fi
    case $machine in
        x86_64 | amd64) ;;
        *) stop "TensorFlow 1.12 has no wheel for $machine, only for x86-64 with AVX: use Docker with --platform" \
                "linux/amd64 on an emulator that has AVX (QEMU 7.2 or later, Rosetta from macOS 15)" ;;
    esac
    if [ -n "$found" ]; then
        "${found#* }" -m venv .venv
    elif conda=$(find_conda); then
        make_conda_environment "$conda"
    elif [ "${BOOTSTRAP:-}" = 1 ]; then
        download_micromamba
        make_conda_environment "$conda"
    else
        cat >&2 <<'END'
setup: Keras 2.2.4 and TensorFlow 1.12 need CPython 3.6 (64-bit). There is none on PATH or in pyenv, and no conda, mamba
or micromamba, which would install it. Paste one of these:

    # downloads micromamba (URL and SHA-256: see setup.sh), which installs CPython into .venv and nowhere else
    make demo BOOTSTRAP=1

    # Docker: the image has its own
    make image

    # pyenv, which compiles it (on Debian and Ubuntu)
    sudo apt-get install -y build-essential curl git libbz2-dev libffi-dev liblzma-dev libreadline-dev libsqlite3-dev \
        libssl-dev zlib1g-dev
    git clone https://github.com/pyenv/pyenv ~/.pyenv && ~/.pyenv/bin/pyenv install 3.6.15 && make demo

    # a CPython 3.6 at another place
    make demo PYTHON36=/path/to/python3.6
END
        exit 1
    fi
}

install_packages() {
    say "installing the pinned packages into .venv (about 700 MB on disk; some minutes the first time)"
    for name in requirements-pip requirements-dev; do
        .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r "$name.txt" >&2 ||
            stop "pip could not install $name.txt, see above; call make setup again"
    done
}

check_tensorflow() {
    status=0
    (.venv/bin/python -c 'import tensorflow'; exit $?) > "$temporary/log" 2>&1 || status=$?
    if [ "$status" -gt 128 ]; then
        stop "TensorFlow 1.12 crashes at import (signal $((status - 128))): its wheel needs a processor, or an emulator," \
            "with AVX (QEMU 7.2 or later, Rosetta from macOS 15); use another machine"
    elif [ "$status" -ne 0 ]; then
        cat "$temporary/log" >&2
        stop "TensorFlow cannot be imported, see above"
    fi
}

wanted=$(cat requirements-pip.txt requirements-dev.txt | cksum)
if complete; then
    exit 0
fi
temporary=$(mktemp -d)
trap 'rm -rf "$temporary" .bootstrap' EXIT
trap 'exit 130' INT TERM
# Of two calls at the same time the second waits, and has nothing to do then.
if command -v flock >/dev/null; then
    exec 9> .setup.lock
    flock 9
    if complete; then
        exit 0
    fi
fi
make_environment
install_packages
check_tensorflow
echo "$wanted" > .venv/complete
say ".venv is complete"
