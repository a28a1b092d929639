#!/bin/sh
# Makes .venv and installs the package, editable, with the extras named: sh .ci/setup_env.sh lab test
# Does nothing where the same has been installed already. PYTHON chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
needed="3.10"
log=.venv/install.log

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Prints "3.12" for a Python that runs, and nothing for one that does not.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        [ -n "$(version_of "$PYTHON")" ] || fail "PYTHON=$PYTHON is not a Python that runs here; give a name or a path of Python $needed or newer."
        new_enough "$PYTHON" || fail "Python $needed or newer is needed, and PYTHON=$PYTHON is $(version_of "$PYTHON")."
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    version=$(version_of python3)
    [ -n "$version" ] || fail "no Python found; install Python $needed or newer, or give its path: PYTHON=/path/to/python3 make ..."
    fail "Python $needed or newer is needed, and python3 is $version; install a newer one, or give its path: PYTHON=/path/to/python3 make ..."
}

make_venv() {
    # Something else of that name is not ours to remove.
    [ ! -e .venv ] || [ -f .venv/pyvenv.cfg ] || fail ".venv exists and is not a virtual environment; move it away."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module; install it (Debian and Ubuntu: apt-get install python3-venv) and run this again."
    echo "setup: making .venv with $python ($("$python" --version 2>&1))"
    rm -rf .venv
    "$python" -m venv .venv || fail "$python could not make .venv (see above)."
}

# Everything that an installation depends on: while none of it changes, there is nothing to install.
fingerprint() {
    cat pyproject.toml constraints.txt | cksum
    version_of .venv/bin/python
    pwd
}

installed() {
    for extra in "$@"; do
        [ "$(cat ".venv/.installed-$extra" 2>/dev/null)" = "$(fingerprint)" ] || return 1
    done
}

# The last step in pip's log, short: "downloading torch-2.15.0 (210.3 MB)".
pip_step() {
    step=$(grep -E '^ *(Obtaining|Preparing|Collecting|Downloading|Using cached|Installing) ' "$log" | tail -n 1)
    case $step in
    Installing\ collected*) echo "unpacked $(($(count_installed) - before)) of $(echo "$step" | tr ',' '\n' | wc -l) packages" ;;
    *) echo "$step" | sed -E 's/^ *//; s/ \(from .*//; s/-(py|cp)[0-9].*\.whl(\.metadata)?//' ;;
    esac
}

count_installed() {
    ls -d .venv/lib/python*/site-packages/*.dist-info 2>/dev/null | wc -l
}

# Prints each new step with the seconds so far while the process runs; after 15 s without one, the old step again.
show_progress() {
    start=$(date +%s) before=$(count_installed) last='' printed=0
    while kill -0 "$1" 2>/dev/null; do
        sleep 3
        step=$(pip_step)
        seconds=$(($(date +%s) - start))
        [ "$step" != "$last" ] || [ $((seconds - printed)) -ge 15 ] || continue
        printf 'setup: %4d s  %s\n' "$seconds" "$step"
        last=$step printed=$seconds
    done
}

install() {
    extras=$(echo "$*" | tr ' ' ',')
    echo "setup: installing the package with [$extras] into .venv; a few minutes the first time (all of pip's output: $log)"
    .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$extras]" >"$log" 2>&1 &
    pip=$!
    trap 'kill "$pip" 2>/dev/null; exit 130' INT TERM
    show_progress "$pip"
    if ! wait "$pip"; then
        reason=$(grep '^ *ERROR' "$log" | tail -n 1 | sed 's/^ *//')
        fail "pip could not install the packages; check the network and the disk space, then run this again (pip's last word in $log: ${reason:-none})."
    fi
    for extra in "$@"; do
        fingerprint >".venv/.installed-$extra"
    done
    echo "setup: done"
}

[ "$#" -gt 0 ] || fail "name the extras to install, for example: sh .ci/setup_env.sh lab"
if .venv/bin/python -m pip --version >/dev/null 2>&1 &&
    { [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of .venv/bin/python)" ]; }; then
    installed "$@" && exit 0
else
    python=$(choose_python)
    make_venv
fi
install "$@"
