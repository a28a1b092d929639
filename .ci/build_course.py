"""Builds what students get: the assignments without solutions and hidden tests, and a zip with the whole course.

Usage: python .ci/build_course.py [folder]     (build/course if none is named)

Writes assignments/NAME.ipynb, README.md and cxgrad-lite-course.zip there. Release versions are nbgrader's: the steps of
its generate_assignment, without the database.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "assignments" / "source"
STEPS = (LockCells, ClearSolutions, ClearOutput, ClearHiddenTests, ClearMarkScheme, ComputeChecksums, CheckCellMetadata)
SECRETS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same notebooks give the same zip


def release(path: Path) -> NotebookNode:
    """The release version of a source notebook."""
    notebook, resources = nbformat.read(path, as_version=4), {"nbgrader": {}}
    for step in STEPS:
        notebook, resources = step().preprocess(notebook, resources)
    text = nbformat.writes(notebook)
    left = [secret for secret in SECRETS if secret in text]
    if left:
        sys.exit(f"build_course: {path.name} would be released with {', '.join(left)}")
    return notebook


def without_outputs(path: Path) -> str:
    """A course notebook as a student should meet it: the questions come before the answers."""
    notebook, _ = ClearOutput().preprocess(nbformat.read(path, as_version=4), {})
    return nbformat.writes(notebook) + "\n"


def files() -> dict[str, str]:
    """Name in the zip → text."""
    found = {"README.md": (SOURCES.parent / "STUDENTS.md").read_text(encoding="utf-8")}
    found["LICENSE"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for path in sorted(SOURCES.glob("*/*.ipynb")):
        found[f"assignments/{path.name}"] = nbformat.writes(release(path)) + "\n"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found[f"notebooks/{path.name}"] = without_outputs(path)
    return found


def main(out: Path) -> None:
    """Write everything; files of an earlier build with other names are left alone."""
    texts = files()
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / "cxgrad-lite-course.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(f"cxgrad-lite-course/{name}", EPOCH), text, zipfile.ZIP_DEFLATED)
            if not name.startswith("notebooks/"):
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_text(text, encoding="utf-8")
    print(f"{out}: {', '.join(name for name in texts if name.startswith('assignments/'))}, cxgrad-lite-course.zip")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "course")
