#!/bin/sh
# Opens JupyterLab on the first notebook; without a screen, it prints the address to open elsewhere.
set -eu
cd "$(dirname "$0")/.."
# At this level, the address is all that remains of fifty lines of log.
set -- --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb --log-level=WARN

# JupyterLab refuses to run as root, the user in most containers.
[ "$(id -u)" -ne 0 ] || set -- "$@" --allow-root

# Without a screen, Python would open a text browser in this terminal.
if [ "$(uname)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    echo "lab: this machine has no screen; open the address that JupyterLab prints below in a browser"
    set -- "$@" --no-browser
fi
# Torch counts the host's cores; joblib knows affinity and a container's quota.
if [ -z "${OMP_NUM_THREADS:-}" ]; then
    OMP_NUM_THREADS=$(.venv/bin/python -c "import joblib; print(joblib.cpu_count())")
    export OMP_NUM_THREADS
fi
echo "lab: $OMP_NUM_THREADS thread(s) for each notebook; OMP_NUM_THREADS=1 make lab if several compute at once"
echo "lab: starting JupyterLab on notebooks/00_start_here.ipynb; Ctrl-C stops it"
exec .venv/bin/python -m jupyterlab "$@"
