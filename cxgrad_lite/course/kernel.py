"""Starts a kernel within limits. Runs by its path, as the program inside the walls: LIMITS -f CONNECTION_FILE."""

import ctypes
import json
import os
import resource
import sys

DIES_WITH_PARENT, SIGKILL = 1, 9

if __name__ == "__main__":
    for name, value in json.loads(sys.argv.pop(1)).items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    if sys.platform == "linux":  # code that ends its parent must not get another one, the user's session for example
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, SIGKILL)
    if os.getppid() <= 1:  # inside bubblewrap or a container, which end with the grader
        os.environ.pop("JPY_PARENT_PID", None)
    # A checkout, where an editable install leads, holds the solutions; the packages are a copy beside the notebook.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if p not in ("", here) and not os.path.isdir(os.path.join(p, "notebooks"))]

    from ipykernel.kernelapp import launch_new_instance

    # Jupyter's exit() ends the kernel some time later, in the middle of another answer. The long form of a traceback
    # takes many seconds after an endless recursion, and nobody reads it.
    launch_new_instance(
        ["--InteractiveShellApp.exec_lines=del exit, quit", "--InteractiveShell.xmode=Minimal", *sys.argv[1:]]
    )
