#!/bin/sh
# Opens JupyterLab on the first notebook; where there is no browser, its address is printed to open elsewhere.
set -eu
cd "$(dirname "$0")/.."
# Of its fifty lines of log, WARN leaves the address.
set -- --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb --log-level=WARN

# JupyterLab refuses to run as root, which is who one is in most containers.
[ "$(id -u)" -ne 0 ] || set -- "$@" --allow-root

# Without a screen, Python would open a text browser in this terminal.
if [ "$(uname)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    echo "lab: no screen here; open the address that JupyterLab prints below in a browser"
    set -- "$@" --no-browser
fi
echo "lab: starting JupyterLab on notebooks/00_start_here.ipynb; Ctrl-C stops it"
exec .venv/bin/python -m jupyterlab "$@"
