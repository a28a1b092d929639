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
echo "lab: starting JupyterLab on notebooks/00_start_here.ipynb; Ctrl-C stops it"
exec .venv/bin/python -m jupyterlab "$@"
