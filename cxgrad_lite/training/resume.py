"""A folder that a run lives in: it can be killed at any moment, and is resumed from there."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import tempfile
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
from .settings import check
from .state import Run, read_state, settings_of_tasks

LAST, PREVIOUS, NEW, METRICS, BEGUN = "last.run", "previous.run", "new.run", "metrics.jsonl", "begun.json"
BEST = re.compile(r"best-(?P<iteration>\d{7})-(?P<accuracy>\d\.\d{5})\.safetensors")
TAKEN = (LAST, PREVIOUS, "method.safetensors", METRICS, "best-*.safetensors")  # what only a run leaves behind
MAY_CHANGE = ("progress", "iterations", "engine")  # between the parts of a run


class OtherRun(ValueError):
    """A state was written by a run with other settings."""


class RunFolder:
    """Keeps a run's state, its best checkpoints and its metrics in a folder.

    ``last.run`` is the whole state, ``previous.run`` the one before: each is written under another name first and then
    renamed, so a process that dies while writing leaves both. A state that cannot be written (a full disk) is reported
    and training goes on. ``best-*.safetensors`` are the ``keep`` checkpoints with the highest validation accuracy, for
    `evaluate(..., protocol="paper")`. ``metrics.jsonl`` has a line for every validation and every state, and
    ``begun.json`` the settings, from the start on. Only the process with rank 0 writes.

    Args:
        folder: is made if it is not there.
        minutes: between two states.
        every: meta-iterations between two states; 0: only the minutes count.
        keep: how many of the best checkpoints to keep.
        resume: go on from the state in the folder, if there is one.
        provenance: where the run comes from (recipe, command, …), written into every checkpoint.

    Attributes:
        kept: meta-iterations in the newest state that was saved or restored; 0: there is none.

    Raises:
        ValueError: if a number is out of range.
        FileExistsError: if the folder holds a run and ``resume`` is false.
        OSError: if nothing can be written there.
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
        check(RunFolder, {"minutes": minutes, "every": every, "keep": keep, "resume": resume})
        self.folder, self.seconds, self.every, self.keep, self.resume = Path(folder), 60 * minutes, every, keep, resume
        self.provenance, self.best = provenance or {}, dict[Path, float]()
        self.saved_at, self.kept = time.monotonic(), 0
        self.folder.mkdir(parents=True, exist_ok=True)
        if not resume and (old := self.left()):
            raise FileExistsError(f"{self.folder} holds a run already ({old[0]}); resume it, or choose another folder")
        for path in filter(Path.is_dir, (self.folder / name for name in (LAST, PREVIOUS, NEW, METRICS, BEGUN))):
            raise IsADirectoryError(errno.EISDIR, "it is a folder, where a run keeps a file", str(path))
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"is there space, and may we")
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self.folder)) from error

    @contextmanager
    def open(self, run: Run) -> Iterator[None]:
        """Keep other processes out meanwhile, and first restore the newest whole state if the run is to be resumed.

        Raises:
            FileExistsError: if another process is training in the folder, or the run begins where another left files.
            ValueError: if the folder holds another run, a longer one, or no state that can be read.
            OSError: if the disk has no space for what the run will write.
        """
        config = {key: value for key, value in vars(run.config).items() if key not in MAY_CHANGE}
        header = {"recipe": recipe_of(run.method), "config": config, "tasks": settings_of_tasks(run.tasks)}
        self.header = json.loads(json.dumps(header, default=str))
        lock = FileLock(self.folder / ".lock")
        try:
            if rank() == 0:
                lock.acquire(blocking=False)
        except Timeout:
            raise FileExistsError(f"{self.folder} is in use by another process that trains; choose another") from None
        try:
            if self.resume:
                self._restore(run)
            if rank() == 0:
                self._clear(run.done)
                self._check_space(run)
            yield
        finally:
            lock.release()

    def states(self) -> list[Path]:
        """The files of states, the newest first."""
        return [path for path in (self.folder / LAST, self.folder / PREVIOUS) if path.exists()]

    def left(self) -> list[str]:
        """What runs have left in the folder."""
        return [path.name for pattern in TAKEN for path in self.folder.glob(pattern)]

    def _begin(self) -> None:
        """Start from nothing: checkpoints of an earlier start of the same run make way, another's are refused."""
        begun, left = self.folder / BEGUN, self.left()
        if left and (not begun.exists() or "method.safetensors" in left):
            raise FileExistsError(f"{self.folder} holds {left[0]}, but no state to go on from; choose another folder")
        if left:
            self._check_same(json.loads(begun.read_text()), begun)
        for name in filter(BEST.fullmatch, left):
            (self.folder / name).unlink()
        with whole_file(begun) as new:
            new.write_text(json.dumps(self.header))

    def _restore(self, run: Run) -> None:
        """Go on from the newest state that can be read; a damaged one is named in a warning."""
        before = run.state()
        for path in (states := self.states()):
            try:
                header, state = read_state(path)
                self._check_same(header, path)
                run.check(state)
                if (done := len(state["history"]["loss"])) > run.config.iterations:
                    raise OtherRun(f"{path} has {done} meta-iterations already, more than {run.config.iterations}")
                run.restore(state)
            except OtherRun:
                raise
            except Exception as error:  # whatever a reader trips over in bytes that anything may have written
                line = str(error).partition("\n")[0] or type(error).__name__
                instead = "" if path == states[-1] else "; the state before it is used"
                warnings.warn(f"{path} is damaged ({line}){instead}", stacklevel=2)
                run.restore(before)
                continue
            self.kept = run.done
            return
        if names := " and ".join(path.name for path in states):
            raise ValueError(f"no state in {self.folder} can be read by this version; delete {names} to begin again")

    def _check_same(self, header: dict[str, dict[str, Any]], path: Path) -> None:
        """Raises OtherRun naming what differs from the run that wrote the state, or is not said there."""
        if silent := [part for part, values in self.header.items() if values and not header.get(part)]:
            raise OtherRun(f"{path} does not say its {', '.join(silent)}; only the version that wrote it can go on")
        differs = [
            f"{part} {key} is {stored!r}, not {self.header[part].get(key)!r}"
            for part in self.header
            for key, stored in header.get(part, {}).items()
            if stored != self.header[part].get(key)
        ]
        if differs:
            raise OtherRun(f"{path} belongs to another run: its {'; its '.join(sorted(differs))}")

    def _clear(self, done: int) -> None:
        """Forget what a killed process left: unfinished files, and lines of metrics that are torn or to be redone."""
        if not done:
            self._begin()
        for pattern in (f".{NEW}.*", f".{BEGUN}.*", ".best-*.safetensors.*", ".method.safetensors.*"):
            for unfinished in self.folder.glob(pattern):
                unfinished.unlink()
        named = {path: BEST.fullmatch(path.name) for path in sorted(self.folder.glob("best-*"))}
        self.best = {path: float(name["accuracy"]) for path, name in named.items() if name}
        for kept in filter(Path.exists, (self.folder / METRICS, self.folder / "probes.jsonl")):
            lines = kept.read_text(errors="replace").splitlines(keepends=True)
            with whole_file(kept) as new:
                new.write_text("".join(line for line in lines if 0 < iteration_of(line) <= done))

    def _check_space(self, run: Run) -> None:
        """Three states at a time, each of weights and two moments, the best checkpoints, and the last one."""
        weights = sum(t.nbytes for t in run.method.state_dict().values())
        there = sum(path.stat().st_size for path in self.folder.iterdir())
        needed, free = (3 * 3 + self.keep + 1) * weights - there, shutil.disk_usage(self.folder).free
        if free < needed:
            text = f"the run will need about {needed / 1e6:.0f} MB here, and {free / 1e6:.0f} MB are free"
            raise OSError(errno.ENOSPC, text, str(self.folder))

    def after_iteration(self, run: Run, last: bool = False) -> None:
        """Save the state if it is time."""
        due = time.monotonic() - self.saved_at >= self.seconds or (self.every and run.done % self.every == 0)
        if rank() == 0 and (due or last):
            self.save(run)

    def save(self, run: Run) -> None:
        """Write the state now; a failure is a warning, for the run is worth more than its backup."""
        self.saved_at = time.monotonic()
        history, new, last = run.history, self.folder / NEW, self.folder / LAST
        try:
            with whole_file(new) as unfinished:
                torch.save({"header": json.dumps(self.header), "state": run.state()}, unfinished)
            # Before the state is in place: if this is the last that happens, the line is made again, not missing.
            self._write_metrics(iteration=run.done, loss=history.loss[-1], accuracy=history.accuracy[-1])
            if last.exists():
                os.replace(last, self.folder / PREVIOUS)
            os.replace(new, last)
            self.kept = run.done
        except OSError as error:
            new.unlink(missing_ok=True)
            warnings.warn(f"the state of the run could not be saved ({error}); training goes on", stacklevel=2)

    def after_validation(self, run: Run) -> None:
        """Keep the checkpoint if it is among the best; one without accuracy never is."""
        if rank() != 0:
            return
        done, result = run.history.validation[-1]
        measured = {"iteration": done, "validation": result.mean, "ci95": result.ci95}
        path = self.folder / f"best-{done:07d}-{result.mean:.5f}.safetensors"
        again = {old for old in self.best if old.name.startswith(f"best-{done:07d}-")}  # before it was killed
        known = {old: accuracy for old, accuracy in self.best.items() if old not in again}
        known |= {} if math.isnan(result.mean) else {path: round(result.mean, 5)}
        kept = dict(sorted(known.items(), key=lambda pair: pair[1])[-self.keep :])
        try:
            if path in kept:
                save_checkpoint(path, run.method, **self.provenance | measured)
            for old in self.best.keys() - kept.keys():
                old.unlink(missing_ok=True)
            self.best = kept
            self._write_metrics(**measured)
        except OSError as error:
            warnings.warn(f"the checkpoint {path.name} could not be saved ({error}); training goes on", stacklevel=2)

    def _write_metrics(self, **values: float) -> None:
        with open(self.folder / METRICS, "a") as metrics:
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
            metrics.write(json.dumps(finite) + "\n")


def iteration_of(line: str) -> int:
    """The meta-iteration that a line of metrics is of; 0 if the line is torn."""
    try:
        return int(json.loads(line)["iteration"]) if line.endswith("\n") else 0
    except (ValueError, KeyError, TypeError):
        return 0
