"""Builds the students' files: the assignments without solutions and hidden tests, and a zip with the whole course.

Usage: python .ci/build_course.py [folder]     (build/course if none is named)

Writes assignments/NAME.ipynb, README.md and cxgrad-lite-course.zip there.
"""

from __future__ import annotations

import runpy
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same notebooks give the same zip


def files() -> dict[str, str]:
    """Name in the zip → text."""
    texts = {"README.md": (NOTEBOOKS / "assignments" / "STUDENTS.md").read_text(encoding="utf-8")}
    texts["LICENSE"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    # By its path, as in setup.py: importing the package would load torch.
    handout = runpy.run_path(str(ROOT / "cxgrad_lite" / "course" / "handout.py"))
    for name, text in handout["for_class"](handout["course"](NOTEBOOKS)).items():
        texts[name if name.startswith("assignments/") else f"notebooks/{name}"] = text
    return texts


def main(out: Path) -> None:
    """Write everything; files that an earlier build left under other names stay."""
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
