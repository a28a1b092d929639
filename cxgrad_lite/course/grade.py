"""Grades a class with nbgrader: collects, runs each hand-in behind walls, and writes sheet, feedback and a list.

nbgrader keeps the gradebook, has the form for the points that a person gives, and writes the feedback, all in
``OUT/course``. Only its execution is replaced, by that of `sandbox`.
"""

from __future__ import annotations

import csv
import hashlib
import html
import json
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from nbgrader.apps import NbGraderAPI
from traitlets.config import Config

from . import sandbox
from .canaries import broken, canary
from .collect import HandIn, collect
from .handout import Notebook, read, text
from .restore import ODD, GradingError, is_locked, is_test, name_of, read_hand_in, restored, source_of
from .sandbox import NO_WALL, Limits, error

CONFIG = '''"""Run nbgrader's commands, or JupyterLab with its Formgrader tab, in this folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "cxgrad_lite"
# The notebooks in submitted/ have been run already, behind walls: nothing is executed here.
steps = "nbgrader.preprocessors."
c.Autograde.sanitize_preprocessors = [steps + s for s in ("DeduplicateIds", "OverwriteCells", "CheckCellMetadata")]
c.Autograde.autograde_preprocessors = [steps + s for s in ("LimitOutput", "SaveAutoGrades", "AssignLatePenalties")]
# Students may read their feedback; the hidden tests stay hidden.
c.GenerateFeedback.preprocessors = [
    steps + "GetGrades", steps + "ClearHiddenTests", "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor"
]
'''


class GradeBook:
    """nbgrader's course folder, and beside it one record for each hand-in that has been graded."""

    def __init__(self, out: Path, sources: dict[str, Notebook]) -> None:
        self.out, self.sources, self.folder = out, sources, (out / "course").resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
        config = Config()
        exec(CONFIG, {"get_config": lambda: config})
        config.CourseDirectory.root = str(self.folder)
        self.api = NbGraderAPI(config=config)
        # nbgrader calls the program alembic by its name, once for a new gradebook.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        for name, source in sources.items():
            path, release = (self.folder / kind / name / f"{name}.ipynb" for kind in ("source", "release"))
            if not release.exists() or path.read_text(encoding="utf-8") != text(source):
                _write(path, text(source))
                self._call(self.api.generate_assignment, name)

    def record(self, hand_in: HandIn) -> dict[str, Any]:
        """What is known of a hand-in with this content, {} if it has not been graded."""
        path = self._record_path(hand_in)
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return record if record.get("digest") == self.digest(hand_in) else {}

    def digest(self, hand_in: HandIn) -> str:
        source = text(self.sources[hand_in.assignment]) if hand_in.assignment else ""
        return hashlib.sha256(hand_in.content + hand_in.refusal.encode() + source.encode()).hexdigest()

    def add(self, hand_in: HandIn, notebook: Notebook | None, reasons: list[str]) -> None:
        """Put one hand-in into the gradebook, then its record, so that a kill in between costs no more than this."""
        if notebook:
            folder = self.folder / "submitted" / hand_in.student / hand_in.assignment
            _write(folder / f"{hand_in.assignment}.ipynb", text(notebook))
            self._call(self.api.autograde, hand_in.assignment, hand_in.student)
        record = {"digest": self.digest(hand_in), "origin": hand_in.origin, "reasons": reasons}
        _write(self._record_path(hand_in), json.dumps(record, ensure_ascii=False))

    def _record_path(self, hand_in: HandIn) -> Path:
        return self.folder / "records" / (hand_in.assignment or "other") / f"{hand_in.student}.json"

    def _call(self, command: Callable[..., dict[str, Any]], *names: str) -> None:
        with warnings.catch_warnings():  # nbgrader's own, about its database and its notebooks
            warnings.simplefilter("ignore")
            result = command(*names)
        if not result["success"]:
            raise GradingError(f"nbgrader failed on {', '.join(names)}: {result.get('log') or result.get('error')}")

    def feedback(self, hand_ins: list[HandIn]) -> None:
        """Pages ``OUT/feedback/ASSIGNMENT/STUDENT.html``, with what a person has added in the meantime."""
        for name in {path.parent.name for path in self.folder.glob("autograded/*/*/*.ipynb")} & set(self.sources):
            self._call(self.api.generate_feedback, name)
        for hand_in in hand_ins:
            name, reason = hand_in.assignment, html.escape("; ".join(self.record(hand_in)["reasons"]))
            page = self.folder / "feedback" / hand_in.student / name / f"{name}.html"
            content = page.read_text("utf-8") if page.exists() else f"<p>This could not be graded: {reason}.</p>\n"
            _write(self.out / "feedback" / name / f"{hand_in.student}.html", content)

    def sheet(self) -> list[list[str]]:
        """One row for each student; for each assignment the points of the tests, of all, and whether some are open."""
        points: dict[str, dict[str, list[Any]]] = defaultdict(dict)
        titles = ["student", "tests", "all"]
        with self.api.gradebook as gradebook:
            known = [assignment for assignment in gradebook.assignments if assignment.submissions]
            for a in known:
                titles += [
                    f"{a.name} tests ({a.max_code_score:g})",
                    f"{a.name} ({a.max_score:g})",
                    f"{a.name} to grade",
                ]
                for s in a.submissions:
                    points[s.student.id][a.name] = [s.code_score, s.score, "yes" * s.needs_manual_grade]
            names = [a.name for a in known]
        for path in self.folder.glob("records/*/[!(]*.json"):  # 0 points for what could not be graded
            if path.parent.name in names:
                points[path.stem].setdefault(path.parent.name, [0.0, 0.0, ""])
        rows = [titles]
        for student, given in sorted(points.items()):
            sums = [sum(cells[k] for cells in given.values()) for k in (0, 1)]
            cells = [*sums, *(cell for name in names for cell in given.get(name, ["", "", ""]))]
            rows.append([student, *(cell if isinstance(cell, str) else f"{cell:g}" for cell in cells)])
        return rows

    def reasons(self) -> list[list[str]]:
        """What needs a look: student, assignment, reason."""
        rows = [["student", "assignment", "reason"]]
        for path in sorted(self.folder.glob("records/*/*.json")):
            reasons = json.loads(path.read_text(encoding="utf-8"))["reasons"]
            rows += [[path.stem, path.parent.name, reason] for reason in reasons]
        return rows


def grade(
    path: Path, out: Path, source: Path, only: list[str], jobs: int, limits: Limits, say: Callable[[str], None]
) -> None:
    """Grade what has not been graded, then write ``grades.csv``, ``needs_a_look.csv`` and ``feedback/`` in ``out``.

    Args:
        path: folder or zip of hand-ins, see `collect`.
        out: folder to write to; what an earlier run graded there is kept.
        source: folder of the source notebooks.
        only: names of assignments; empty for all.
        jobs: hand-ins at a time.
        say: takes a line about the progress.

    Raises:
        ValueError: if there are no such hand-ins or source notebooks.
    """
    sources = read_sources(source, only)
    hand_ins = collect(path, {n: {name_of(c) for c in s["cells"]} - {""} for n, s in sources.items()})
    book, wall = GradeBook(out, sources), sandbox.strongest_wall()
    new = [hand_in for hand_in in hand_ins if not book.record(hand_in)]
    say(f"Each hand-in runs in {wall}." if wall else NO_WALL)
    say(f"{len(hand_ins)} hand-ins, {len(hand_ins) - len(new)} of them graded before")
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run, sources.get(hand_in.assignment), hand_in, wall, limits): hand_in for hand_in in new}
        for done in as_completed(running):
            book.add(running[done], *done.result())
            say(f"{running[done].student}, {running[done].assignment or running[done].origin}: done")
    book.feedback([hand_in for hand_in in hand_ins if hand_in.assignment])
    for name, rows in (("grades.csv", book.sheet()), ("needs_a_look.csv", book.reasons())):
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[_as_text(entry) for entry in row] for row in rows])
    say(f"{out / 'grades.csv'}, {out / 'needs_a_look.csv'} and {out / 'feedback'} written")


def read_sources(folder: Path, only: list[str]) -> dict[str, Notebook]:
    """Assignment → source notebook.

    Raises:
        ValueError: if one is missing, or is a release version, which has no hidden tests.
    """
    sources = {path.stem: read(path) for path in sorted(folder.glob("*/*.ipynb"))}
    there, chosen = ", ".join(sources) or "nothing", only or list(sources)
    for name in chosen or ["any assignment"]:
        if name not in sources:
            raise ValueError(f"no source notebook of {name} in {folder}, which has {there}; see --source")
        if "BEGIN HIDDEN TESTS" not in text(sources[name]):
            raise ValueError(f"{name} in {folder} has no hidden tests: a release version cannot grade")
    return {name: sources[name] for name in chosen}


def run(source: Notebook | None, hand_in: HandIn, wall: str, limits: Limits) -> tuple[Notebook | None, list[str]]:
    """The notebook with the outputs of its run, None if it is refused, and what needs a look."""
    reasons = [hand_in.note] if hand_in.note else []
    if source is None or hand_in.refusal:
        return None, [*reasons, f"{hand_in.origin} {hand_in.refusal}"]
    try:
        notebook, notes = restored(source, read_hand_in(hand_in.content))
    except ValueError as error:
        return None, [*reasons, f"{hand_in.origin} {error}"]
    return notebook, reasons + notes + _odd(notebook) + _execute(notebook["cells"], wall, limits)


def _odd(notebook: Notebook) -> list[str]:
    words = sorted({m[0] for c in notebook["cells"] if not is_locked(c) for m in ODD.finditer(source_of(c))})
    return [f"unusual code, read it: {', '.join(words)}"] if words else []


def _execute(cells: list[dict[str, Any]], wall: str, limits: Limits) -> list[str]:
    """Fill in the outputs up to the last test; what happened that should not."""
    last = max(i for i, cell in enumerate(cells) if is_test(cell))
    code = [cell for cell in cells[: last + 1] if cell["cell_type"] == "code"]
    plan, marks = [], []
    for cell in code:
        kind = "test" if is_test(cell) else "setup" if is_locked(cell) else "own"
        plan.append({"kind": kind, "source": source_of(cell)})
        marks.append(canary(source_of(cell)) if kind == "test" else ("", ""))
        plan.append({"kind": "canary", "source": marks[-1][0]})
    outputs, reasons = sandbox.run(plan, wall, limits), []
    for cell, (_, mark), own, after in zip(code, marks, outputs[::2], outputs[1::2]):
        reason = next((_line(output) for output in own if output["output_type"] == "error"), "")
        distrust = broken(after, mark) if mark else ""
        if distrust and not reason:
            reason = distrust
            reasons.append(f"{name_of(cell)}: no points, {reason}")
        elif re.match(r"stopped|the kernel|the grading|not run", reason):
            reasons.append(f"{name_of(cell) or 'a cell of their own'}: {reason}")
        elif distrust:  # the test has failed as well, but somebody should know
            reasons.append(f"{name_of(cell)}: {distrust}")
        # Of a test one line is kept: what else it shows could show the hidden tests, or be taken for points.
        cell["outputs"] = [error(reason)] if mark and reason else [] if mark else own
    return reasons


def _line(output: dict[str, Any]) -> str:
    name, message = output["ename"], " ".join(output["evalue"].split())
    plain = name in ("AssertionError", "StoppedError") and message
    return "not answered" if name == "NotImplementedError" else (message if plain else f"{name}: {message}")[:200]


def _write(path: Path, content: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)


def _as_text(entry: str) -> str:
    """A spreadsheet runs what begins like a formula, and students choose names and what their errors say."""
    return f"'{entry}" if entry.startswith(("=", "+", "-", "@", "\t", "\r")) else entry
