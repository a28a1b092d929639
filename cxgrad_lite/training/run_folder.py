"""A folder that a run lives in: it can be killed at any moment and goes on from there."""

from __future__ import annotations

import json
import os
import pickle
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from .checkpoints import recipe_of, save_checkpoint, whole_file
from .parallel import rank
from .state import Run

LAST, PREVIOUS = "last.run", "previous.run"
MAY_CHANGE = ("progress", "iterations", "engine")  # between the parts of a run


class RunFolder:
    """Keeps a run's state, its best checkpoints and its metrics in a folder.

    ``last.run`` is the whole state, ``previous.run`` the one before: each is written under another name first and then
    renamed, so a process that dies while writing leaves both. A state that cannot be written (a full disk) is reported
    and training goes on. ``best-*.safetensors`` are the ``keep`` checkpoints with the highest validation accuracy, for
    `evaluate(..., protocol="paper")`. ``metrics.jsonl`` has a line for every validation and every state.

    Only the process with rank 0 writes.

    Args:
        folder: is made if it is not there.
        minutes: between two states.
        every: meta-iterations between two states; 0: only the minutes count.
        keep: how many of the best checkpoints to keep.
        resume: go on from the state in the folder, if there is one.
        provenance: where the run comes from (recipe, command, …), written into every checkpoint.

    Raises:
        FileExistsError: if the folder holds a run and ``resume`` is false.
    """

    def __init__(
        self,
        folder: str | Path,
        minutes: float = 10.0,
        every: int = 0,
        keep: int = 5,
        resume: bool = False,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.seconds, self.every, self.keep, self.resume = Path(folder), 60 * minutes, every, keep, resume
        self.provenance = provenance or {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.saved_at = time.monotonic()
        self.best: list[tuple[float, Path]] = []
        if not resume and (self.folder / LAST).exists():
            raise FileExistsError(f"{self.folder} holds a run already; resume it, or choose another folder")

    @contextmanager
    def open(self, run: Run) -> Iterator[None]:
        """Keep other processes out meanwhile, and first restore the newest whole state if the run is to be resumed.

        Raises:
            FileExistsError: if another process is training in the folder.
            ValueError: if the folder holds a run of another recipe or configuration, or no state can be read.
        """
        config = {key: value for key, value in vars(run.config).items() if key not in MAY_CHANGE}
        self.header = json.dumps({"recipe": recipe_of(run.method), "config": config})
        lock = FileLock(self.folder / ".lock")
        try:
            if rank() == 0:
                lock.acquire(blocking=False)
        except Timeout:
            raise FileExistsError(f"{self.folder} is in use by another process that trains; choose another") from None
        try:
            if self.resume:
                self._restore(run)
            self._find_best()
            yield
        finally:
            lock.release()

    def _restore(self, run: Run) -> None:
        """Go on from the newest state that can be read; a damaged one is named in a warning."""
        paths = [path for path in (self.folder / LAST, self.folder / PREVIOUS) if path.exists()]
        for path in paths:
            try:
                stored = torch.load(path, map_location="cpu", weights_only=True)
                header, state = stored["header"], stored["state"]
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
                line = str(error).partition("\n")[0]
                warnings.warn(f"{path} is damaged ({line}); the state before it is used", stacklevel=2)
                continue
            if header != self.header:
                raise ValueError(f"{path} belongs to another run: stored {header}; asked for {self.header}")
            run.restore(state)
            return
        if paths:
            raise ValueError(f"no state in {self.folder} can be read by this version; delete {LAST} to begin again")

    def _find_best(self) -> None:
        paths = sorted(self.folder.glob("best-*.safetensors"))
        self.best = [(float(path.stem.split("-")[-1]), path) for path in paths]

    def after_iteration(self, run: Run, last: bool = False) -> None:
        """Save the state if it is time."""
        due = time.monotonic() - self.saved_at >= self.seconds or (self.every and run.done % self.every == 0)
        if rank() == 0 and (due or last):
            self.save(run)

    def save(self, run: Run) -> None:
        """Write the state now; a failure is a warning, for the run is worth more than its backup."""
        self.saved_at = time.monotonic()
        history, new, last = run.history, self.folder / "new.run", self.folder / LAST
        try:
            with whole_file(new) as unfinished:
                torch.save({"header": self.header, "state": run.state()}, unfinished)
            if last.exists():
                os.replace(last, self.folder / PREVIOUS)
            os.replace(new, last)
            self._write_metrics(iteration=run.done, loss=history.loss[-1], accuracy=history.accuracy[-1])
        except OSError as error:
            new.unlink(missing_ok=True)
            warnings.warn(f"the state of the run could not be saved ({error}); training goes on", stacklevel=2)

    def after_validation(self, run: Run) -> None:
        """Keep the checkpoint if it is among the best."""
        if rank() != 0:
            return
        done, result = run.history.validation[-1]
        self._write_metrics(iteration=done, validation=result.mean, ci95=result.ci95)
        path = self.folder / f"best-{done:07d}-{result.mean:.5f}.safetensors"
        keep = sorted([*self.best, (round(result.mean, 5), path)], key=lambda pair: pair[0])[-self.keep :]
        try:
            if any(path == kept for _, kept in keep):
                measured = {"iteration": done, "validation": result.mean, "ci95": result.ci95}
                save_checkpoint(path, run.method, **self.provenance | measured)
            for _, old in self.best:
                if all(old != kept for _, kept in keep):
                    old.unlink(missing_ok=True)
            self.best = keep
        except OSError as error:
            warnings.warn(f"the checkpoint {path.name} could not be saved ({error}); training goes on", stacklevel=2)

    def _write_metrics(self, **values: float) -> None:
        with open(self.folder / "metrics.jsonl", "a") as metrics:
            metrics.write(json.dumps(values) + "\n")
