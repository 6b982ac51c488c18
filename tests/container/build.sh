#!/bin/sh
# Builds the image and runs its commands without a container engine or an image registry: buildah with chroot isolation,
# on a base made of Debian's minimal system and the CPython 3.6 of .venv.
#
#     sudo sh tests/container/build.sh [base] [image] [import] [commands] [check] [test] [distributed]
#
# Without arguments, all seven in order; `distributed` builds the second target and trains with two workers in it.
# Needs root, buildah, debootstrap and a complete `make setup`; 30 minutes, 9 GB.
# The build uses the pip settings (index, certificates) of the calling user; they do not stay in the image.
set -eu
cd "$(dirname "$0")/../.."
base=localhost/global-attention-base
image=localhost/global-attention
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}"

for tool in buildah debootstrap; do
    command -v $tool > /dev/null || { echo "build.sh: no $tool: apt-get install buildah debootstrap" >&2; exit 1; }
done
prefix=$(.venv/bin/python -c 'import sys; print(sys.base_prefix)') || { echo 'build.sh: make setup first' >&2; exit 1; }
temporary=$(mktemp -d)
container=
clean() {
    [ -z "$container" ] || buildah rm "$container" > /dev/null
    rm -rf "$temporary"
}
trap clean EXIT
trap 'exit 130' INT TERM

# Debian of the same release as this system, so that the copied interpreter finds its libc; other libraries that it needs
# are copied too.
make_base() {  # NAME, PACKAGES: of Debian, joined by commas
    root=$temporary/root
    debootstrap --variant=minbase ${2:+--include="$2"} "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" \
        > "$temporary/debootstrap.log" || { tail "$temporary/debootstrap.log" >&2; exit 1; }
    cp -a "$prefix/." "$root/usr/local/"
    find "$root/usr/local" -name '*.pyc' -delete
    find "$root/usr/local" -name '*.so*' -o -path '*/bin/python3.6' | xargs ldd 2>/dev/null |
        sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
        while read -r library; do
            case $library in
                "$prefix"/*) ;;
                *) [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")"; cp -L "$library" "$root$library"; } ;;
            esac
        done
    ln -sf python3.6 "$root/usr/local/bin/python"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    chroot "$root" /sbin/ldconfig
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root" /
    buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin --cmd python3 "$container"
    buildah commit --quiet "$container" "$1"
    buildah rm "$container" > /dev/null
    container=
    rm -rf "$root"
}

make_image() {  # TARGET, NAME
    target=$1 name=$2
    # Site, user and environment settings of pip in one file.
    .venv/bin/python -m pip config list | sed -n "s/^\(global\|:env:\)\.\(cert\|index-url\|proxy\)='\(.*\)'$/\2 = \3/p" |
        sort -u | { echo '[global]'; cat; } > "$temporary/pip.conf"
    set -- --volume "$temporary/pip.conf:/etc/pip.conf:ro"
    certificates=$(sed -n 's/^cert = //p' "$temporary/pip.conf")
    [ -z "$certificates" ] || set -- "$@" --volume "$(dirname "$certificates"):$(dirname "$certificates"):ro"
    buildah bud --target "$target" --build-arg "BASE=$base" --build-arg "COMPILER_BASE=$base-compiler" "$@" --tag "$name" .
    buildah images --noheading --format '{{.Name}} {{.Size}}' "$name"
}

# As `docker run IMAGE ...` does: the image's entry point, user and environment, /data and /runs mounted.
runs=$temporary/runs
run() {
    echo "+ docker run IMAGE $*"
    code=0
    container=$(buildah from --pull-never "$image")
    # buildah lays an image's own volumes over those of the command line; other tools the other way round.
    buildah config --volume /data- --volume /runs- "$container"
    # shellcheck disable=SC2046
    buildah run --volume "$runs:/runs" --volume "$PWD/samples:/data:ro" "$container" -- \
        $(buildah inspect --format '{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}' "$container") "$@" || code=$?
    buildah rm "$container" > /dev/null
    container=
    return $code
}

mkdir -m 1777 "$temporary/runs"
for step in ${*:-base image import commands check test distributed}; do
    case $step in
        base)
            make_base "$base" ''
            buildah images --noheading --format '{{.Name}} {{.Size}}' "$base"
            ;;
        image) make_image run "$image" ;;
        import)
            run sh -c 'test "$(id -u)" != 0 && test "$PWD" = /app && touch /runs/file runs/file && ls /data/* && ! touch /app/file 2>/dev/null'
            run -c 'import keras, sys, tensorflow; print(sys.version, keras.__version__, tensorflow.__version__, "你好")'
            ;;
        commands)
            run train.py --data /data/translate --units 16 --embedding 16 --epochs 1
            echo 'does Tom like these maps?' > "$temporary/runs/input"
            run predict.py --input /runs/input --output /runs/output --show-attention --plot-dir /runs/pictures
            test "$(wc -l < "$temporary/runs/output")" = 1
            ls "$temporary"/runs/pictures/*.png
            run sh -c 'printf "one\n\ntwo\n" | python predict.py --input - | wc -l | grep -x 3'
            # docker creates a folder of -v that does not exist, as root: one line with the remedy, before any work.
            runs=$temporary/owned
            mkdir -m 755 "$runs"
            ! run train.py 2> "$temporary/refused" || exit 1
            cat "$temporary/refused"
            grep -q 'train.py: runs/translate: cannot be created .*create it yourself with mkdir before' "$temporary/refused"
            ! grep Traceback "$temporary/refused" || exit 1
            test -z "$(ls "$runs")"
            runs=$temporary/runs
            ;;
        check)
            # Built again, it gives the same bits: all that the check prints, the worst differences too, is the same.
            run regress.py check > "$temporary/first"
            cat "$temporary/first"
            make_image run "$image"
            run regress.py check > "$temporary/second"
            cmp "$temporary/first" "$temporary/second"
            echo 'the same from two builds'
            ;;
        test) run test ;;
        distributed)
            make_base "$base-compiler" g++,make
            make_image distributed "$image-distributed"
            image=$image-distributed
            # Two workers and one process that accumulates as many batches: the same losses.
            set -- --data /data/translate --units 16 --embedding 16 --epochs 1 --accumulate 2 --threads 1
            run horovodrun -np 2 -H localhost:2 --gloo python train.py "$@" --run runs/two
            run train.py "$@" --run runs/one
            for name in one two; do
                cut -d, -f1-7 "$runs/$name/log.csv" | tee "$temporary/$name"
            done
            cmp "$temporary/one" "$temporary/two"
            echo 'the same from two workers'
            ;;
        *) echo "build.sh: no step $step" >&2; exit 2 ;;
    esac
done
