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
    found=$(version_of python3)
    [ -n "$found" ] || fail "no Python found; install Python $needed or newer, or give its path: PYTHON=/path/to/python3 make ..."
    fail "Python $needed or newer is needed, and python3 is $found; install a newer one, or give its path: PYTHON=/path/to/python3 make ..."
}

make_venv() {
    # What is not a virtual environment is not ours to remove.
    [ ! -e .venv ] || [ -f .venv/pyvenv.cfg ] || fail ".venv is there but is no virtual environment; move it away."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module; install it (Debian and Ubuntu: apt-get install python3-venv) and run this again."
    echo "setup: making .venv with $python ($("$python" --version 2>&1))"
    rm -rf .venv
    "$python" -m venv .venv || fail "$python could not make .venv (see above)."
}

# What an installation depends on: when none of it has changed, there is nothing to install.
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

install() {
    extras=$(echo "$*" | tr ' ' ',')
    echo "setup: installing the package with [$extras] into .venv; minutes the first time (progress: tail -f $log)"
    if ! .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$extras]" >"$log" 2>&1; then
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
