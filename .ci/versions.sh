#!/bin/sh
# The tests with the oldest versions that pyproject.toml allows (Python 3.10), or with the newest that there are.
# Usage: sh .ci/versions.sh oldest|newest     (environments are kept in build/oldest and build/newest)
set -eu
cd "$(dirname "$0")/.."
which=${1:-}
folder=build/$which

fail() {
    echo "versions: $*" >&2
    exit 1
}

first_of() {
    for candidate in "$@"; do
        if "$candidate" -c '' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "none of $* is here; give the path of one: PYTHON=/path/to/python make test-$which"
}

# torch>=2.3 in the list of dependencies becomes torch==2.3.*
lower_bounds() {
    sed -n '/^dependencies = \[/,/^\]/s/^ *"\([A-Za-z0-9-]*\)>=\([0-9.]*\)".*/\1==\2.*/p' pyproject.toml
}

case $which in
oldest)
    python=${PYTHON:-$(first_of python3.10 "$HOME"/.pyenv/versions/3.10.*/bin/python)}
    extras=test
    ;;
newest)
    python=${PYTHON:-$(first_of python3.14 python3.13 "$HOME"/.pyenv/versions/3.1[34].*/bin/python python3.12 python3.11)}
    extras=lab,test,course
    ;;
*) fail "say oldest or newest" ;;
esac

echo "versions: installing the $which ones with $("$python" --version) into $folder/env; minutes the first time"
mkdir -p "$folder"
[ -d "$folder/env" ] || "$python" -m venv "$folder/env"
python=$folder/env/bin/python
# An empty list for the newest: constraints.txt is left out too.
if [ "$which" = oldest ]; then lower_bounds; fi >"$folder/constraints.txt"
"$python" -m pip --disable-pip-version-check install --upgrade --upgrade-strategy eager -c "$folder/constraints.txt" \
    -e ".[$extras]" ipykernel psutil >"$folder/pip.log" 2>&1 ||
    fail "pip failed: $(grep '^ERROR' "$folder/pip.log" | tail -n 1) (all of it: $folder/pip.log)"
"$python" -m pip --disable-pip-version-check list 2>/dev/null |
    grep -E '^(torch|torchvision|numpy|matplotlib|plotly|ipywidgets|scikit-learn|tqdm|safetensors) '

if [ "$which" = newest ]; then
    exec "$python" .ci/check.py
fi
# What needs JupyterLab or nbgrader has lower bounds of its own; here it is about the package.
# Old packages are warned of what newer ones, which they did not know, have deprecated.
"$python" -m pytest -ra -W ignore::DeprecationWarning --ignore tests/test_assignments.py \
    --ignore tests/test_grading.py --ignore tests/test_browser.py --ignore tests/test_browser_panels.py
exec "$python" .ci/check_notebooks.py -W ignore::DeprecationWarning -W ignore::ResourceWarning \
    -W ignore::pytest.PytestUnraisableExceptionWarning notebooks/00_start_here.ipynb notebooks/01_tasks.ipynb notebooks/02_maml.ipynb \
    notebooks/05_cxgrad.ipynb
