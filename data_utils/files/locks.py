"""One process at a time, for what several must not do at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm


@contextmanager
def only_one(target: Path, doing: str) -> Iterator[None]:
    """Hold ``TARGET.lock``; whoever comes second says so and waits. The system frees the lock of a killed process.

    Args:
        target: the file or folder to be made, in a folder that exists.
        doing: for the message, such as "downloading".

    Raises:
        OSError: if the lock file cannot be written, or the file system knows no locks.
    """
    from filelock import FileLock, Timeout  # only where something is made: opening what is there needs no lock

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note = f"another process is {doing} {target.name}: waiting for it (or, if there is none, remove"
            tqdm.write(f"{note} {lock.lock_file})", file=sys.stderr)
            lock.acquire(poll_interval=0.2)
    except NotImplementedError as error:  # older versions of filelock, on network folders without locks
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()
