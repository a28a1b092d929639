"""``python -m cxgrad_lite``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType


def main() -> int:
    """Import the commands, which takes seconds, and run one; returns the exit code."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)
    try:
        from .commands import main as run
    except Exception as error:
        hiding = hidden_modules()
        if not hiding and not (isinstance(error, ImportError) and error.name == "data_utils"):
            raise
        print(f"error: {hiding or error}", file=sys.stderr)
        return 2
    try:
        signal.signal(signal.SIGINT, usual)
        return run()
    except KeyboardInterrupt:  # outside of what `run` looks after
        return 130
    finally:
        signal.signal(signal.SIGINT, leave)


def leave(signum: int, frame: FrameType | None) -> None:
    """End at once: nothing is begun yet, and an import that is interrupted may raise anything."""
    os._exit(128 + signum)


def hidden_modules() -> str:
    """A sentence about files of the working folder that Python took for modules of its own; "" if there are none."""
    here = Path(sys.path[0])
    files = [*here.glob("*.py"), *here.glob("*/__init__.py")]
    hiding = [
        path for path in files if (path.parent if path.stem == "__init__" else path).stem in sys.stdlib_module_names
    ]
    if not hiding:
        return ""
    return (
        f"{', '.join(map(str, hiding))} is found in place of Python's own module; rename it, or work in another folder"
    )


if __name__ == "__main__":
    sys.exit(main())
