"""Puts the course into the wheel: notebooks without outputs, assignments without solutions and hidden tests."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDER = Path("cxgrad_lite") / "_notebooks"


class BuildWithNotebooks(build_py):
    def run(self) -> None:
        if self.editable_mode:  # the notebooks are those of the checkout
            return super().run()
        # What an earlier build left must not get into this wheel.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for name, text in self.course().items():
            path = Path(self.build_lib) / FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        added = [] if self.editable_mode else [str(Path(self.build_lib) / FOLDER / name) for name in self.course()]
        return [*super().get_outputs(include_bytecode), *added]

    def course(self) -> dict[str, str]:
        # By its path: importing the package would need torch.
        return runpy.run_path(str(ROOT / "cxgrad_lite" / "course" / "handout.py"))["course"](ROOT / "notebooks")


setup(cmdclass={"build_py": BuildWithNotebooks})
