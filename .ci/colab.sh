#!/bin/sh
# Runs the notebooks that students open first, and the tests of the panels, with the versions that Colab has.
# Usage: sh .ci/colab.sh [folder]     (build/colab if none is named; 6 GB, kept for the next time)
# Colab's own front end is not here and is not tested. Exits with 77 where it cannot run: no Python 3.13, no room.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
folder=${1:-build/colab}
NEEDS_GB=10
notebooks="00_start_here 01_tasks 02_maml 05_cxgrad"

fail() {
    echo "colab: $*" >&2
    exit 1
}

not_run() {
    echo "colab: not run: $*" >&2
    exit 77
}

run_pip() {
    "$folder/env/bin/python" -m pip --disable-pip-version-check "$@" >"$folder/pip.log" 2>&1 && return
    ! grep -q 'No space left' "$folder/pip.log" || not_run "the disk is full"
    fail "pip $1 failed: $(grep '^ERROR' "$folder/pip.log" | tail -n 1) (all of it: $folder/pip.log)"
}

# What is installed, one a line, without the package itself.
versions() {
    "$folder/env/bin/python" -m pip --disable-pip-version-check list --format=freeze 2>/dev/null |
        grep -v '^cxgrad-lite' | sort
}

for python in ${PYTHON:-python3.13 "$HOME"/.pyenv/versions/3.13.*/bin/python}; do
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
    python=
done
[ -n "$python" ] || not_run "Colab has Python 3.13, and none is here; give its path: PYTHON=/path/to/python3.13 make test-colab"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if ! cmp -s .ci/colab.txt "$folder/installed.txt"; then
    rm -rf "$folder/env"
    # Measured: 8 GB while pip holds what it downloads, 5.4 GB afterwards.
    room=$(df -Pk "$folder" | awk 'NR == 2 {print int($4 / 1e6)}')
    [ "$room" -ge "$NEEDS_GB" ] || not_run "this needs $NEEDS_GB GB of disk the first time, and $room GB are free"
    echo "colab: installing Colab's versions into $folder/env; minutes the first time"
    "$python" -m venv "$folder/env"
    # scikit-learn, tqdm and safetensors are there too, in whatever version.
    run_pip install -r .ci/colab.txt scikit-learn tqdm safetensors psutil nbval hypothesis 'setuptools>=77'
    cp .ci/colab.txt "$folder/installed.txt"
fi

echo "colab: installing the wheel"
run_pip uninstall --yes cxgrad-lite
versions >"$folder/before.txt"
rm -rf "$folder/dist"
"$folder/env/bin/python" .ci/build_package.py "$folder/dist"
run_pip install "$folder"/dist/*.whl
versions >"$folder/after.txt"
changed=$(diff "$folder/before.txt" "$folder/after.txt" || true)
[ -z "$changed" ] || fail "installing the package changes what was there:
$changed"
echo "colab: nothing else was installed, upgraded or removed"

# Away from the checkout, so that the wheel is what is imported.
cd "$folder"
export PYTHONPATH="$root/.ci"
where=$("$folder/env/bin/python" -c 'import cxgrad_lite; print(cxgrad_lite.__file__)')
case $where in "$folder"/env/*) ;; *) fail "the wheel was to be tested, and $where was imported" ;; esac
echo "colab: tests of the panels"
# Older packages are warned of what newer ones, which they did not know, have deprecated.
"$folder/env/bin/python" -m pytest -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider -ra \
    -W ignore::DeprecationWarning \
    "$root/tests/test_panels.py" "$root/tests/test_training_panel.py" "$root/tests/test_embedding_panels.py"
echo "colab: notebooks"
# Colab's tornado and pyzmq are older than the Python that runs them here, and warn of it.
set -- -W ignore::DeprecationWarning -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning
for name in $notebooks; do set -- "$@" "$root/notebooks/$name.ipynb"; done
"$folder/env/bin/python" "$root/.ci/check_notebooks.py" -c "$root/pyproject.toml" --rootdir "$root" \
    -p no:cacheprovider "$@"

# The first cell of every notebook, as it is; git takes the last commit of this checkout for the one on GitHub.
if [ ! -d "$root/.git" ]; then
    echo "colab: passed, but for the install cell: this is no git checkout"
    exit 0
fi
echo "colab: the install cell"
run_pip uninstall --yes cxgrad-lite
"$folder/env/bin/python" - "$root" <<'PROGRAM' >"$folder/cell.ipy"
import json, sys
cells = json.load(open(f"{sys.argv[1]}/notebooks/00_start_here.ipynb", encoding="utf-8"))["cells"]
print("".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"]))
print("import cxgrad_lite")
PROGRAM
address=$(sed -n 's/.*git+\(https:[^@]*\).*/\1/p' "$folder/cell.ipy")
GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$root.insteadOf" GIT_CONFIG_VALUE_0="$address" \
    "$folder/env/bin/ipython" --no-term-title --colors=NoColor "$folder/cell.ipy" || fail "the install cell failed"
versions >"$folder/after.txt"
cmp "$folder/before.txt" "$folder/after.txt" || fail "the install cell changes what was there"
"$folder/env/bin/python" -c 'import cxgrad_lite' || fail "the install cell did not install the package"
echo "colab: passed"
