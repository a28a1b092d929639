"""``python -m cxgrad_lite``."""

from __future__ import annotations

import sys


def main() -> int:
    try:
        from .commands import main as run
    except ImportError as error:
        if error.name != "data_utils":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
