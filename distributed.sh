#!/bin/sh
# Builds Horovod for several workers into the environment of an interpreter, once: sh distributed.sh [.venv/bin/python]
# It needs a C++ compiler and make; TensorFlow is in the environment already.
set -eu
cd "$(dirname "$0")"
python=${1:-.venv/bin/python}

if "$python" -c 'import horovod.tensorflow' 2>/dev/null; then
    exit 0
fi
for program in g++ make; do
    if ! command -v "$program" >/dev/null; then
        echo "distributed: building Horovod needs $program: install it (Debian: apt-get install g++ make)" >&2
        exit 1
    fi
done
echo 'distributed: building Horovod 0.19.5 with Gloo (some minutes)' >&2
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
trap 'exit 130' INT TERM

# Gloo uses an interface that newer kernel headers no longer have when they announce a version after 4.5.
mkdir "$temporary/linux"
cat > "$temporary/linux/version.h" <<'END'
#include_next <linux/version.h>
#undef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION(4,5,0)
END

install() {
    "$python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$1"
}
# First cmake and the others: pip builds Horovod before it installs anything of the same call.
sed '/^horovod==/,/^    # via/d' requirements-distributed.txt > "$temporary/others.txt"
install "$temporary/others.txt"
PATH=$(cd "$(dirname "$(command -v "$python")")" && pwd):$PATH CC=gcc CXX=g++ CPLUS_INCLUDE_PATH=$temporary \
    HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
    HOROVOD_WITHOUT_MXNET=1 install requirements-distributed.txt
"$python" -c 'import horovod.tensorflow'
