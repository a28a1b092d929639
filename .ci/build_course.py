"""Builds what students get, and with a seed the private sources of a term.

Usage: python .ci/build_course.py [folder] [--seed TEXT] [--instructor FOLDER]

Writes assignments/NAME.ipynb, README.md and cxgrad-lite-course.zip to the folder (build/course). With a seed, the
assignments are the variant of a term, and their sources, with solutions and hidden tests, go to the instructor's folder
(build/instructor) with the seed. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import runpy
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same notebooks give the same zip
VARIANT = runpy.run_path(str(ROOT / ".ci" / "course_variants.py"))["variant"]
HANDOUT = runpy.run_path(str(ROOT / "cxgrad_lite" / "course" / "handout.py"))  # importing it would load torch


def sources(seed: str) -> dict[str, Any]:
    """Assignment → source notebook, as published where there is no seed."""
    paths = sorted(NOTEBOOKS.glob("assignments/source/*/*.ipynb"))
    notebooks = {path.stem: HANDOUT["read"](path) for path in paths}
    return {name: VARIANT(nb, name, seed) if seed else nb for name, nb in notebooks.items()}


def files(seed: str = "") -> dict[str, str]:
    """Name in the zip → text."""
    texts = {"README.md": (NOTEBOOKS / "assignments" / "STUDENTS.md").read_text(encoding="utf-8")}
    texts["LICENSE"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for name, text in HANDOUT["for_class"](HANDOUT["course"](NOTEBOOKS)).items():
        texts[name if name.startswith("assignments/") else f"notebooks/{name}"] = text
    for name, notebook in sources(seed).items():
        texts[f"assignments/{name}.ipynb"] = HANDOUT["text"](HANDOUT["released"](notebook))
    return texts


def main(out: Path, seed: str, instructor: Path) -> None:
    """Write everything; files of an earlier build with other names are left alone."""
    texts = files(seed)
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / "cxgrad-lite-course.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(f"cxgrad-lite-course/{name}", EPOCH), text, zipfile.ZIP_DEFLATED)
            if not name.startswith("notebooks/"):
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_text(text, encoding="utf-8")
    print(f"{out}: {', '.join(name for name in texts if name.startswith('assignments/'))}, cxgrad-lite-course.zip")
    for name, notebook in sources(seed).items() if seed else ():
        path = instructor / "source" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HANDOUT["text"](notebook), encoding="utf-8")
    if seed:
        (instructor / "seed.txt").write_text(f"{seed}\n", encoding="utf-8")
        print(f"{instructor}: seed, solutions and hidden tests of this term; keep this folder to yourself")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "course")
    parser.add_argument("--seed", default="", help="any text that students cannot guess")
    parser.add_argument("--instructor", type=Path, default=ROOT / "build" / "instructor")
    options = parser.parse_args()
    main(options.folder, options.seed, options.instructor)
