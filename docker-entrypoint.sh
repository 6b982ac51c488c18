#!/bin/sh
# Runs a command of the project (`train.py ...`), the tests (`test ...`), or any other program. `exec` replaces this shell, so
# that signals reach the program.
set -eu
app=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in
    '')
        echo 'usage: docker run IMAGE train.py|predict.py|... [--help] [options], docker run IMAGE test'
        ;;
    test)
        shift
        cd "$app"
        exec python -m pytest -p no:cacheprovider -n 2 --dist loadfile -m 'not slow' "$@"
        ;;
    *.py)
        if [ -f "$app/$1" ]; then
            command=$app/$1
            shift
            # Hints then name commands as this script takes them, without an interpreter.
            GLOBAL_ATTENTION_ENTRY_POINT=1 exec python "$command" "$@"
        fi
        exec python "$@"
        ;;
    -*)
        exec python "$@"
        ;;
    *)
        exec "$@"
        ;;
esac
