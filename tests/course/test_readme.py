"""What README says can be done."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cxgrad_lite import METHODS
from cxgrad_lite.commands import build_parser
from cxgrad_lite.commands.train import changed, find_recipe
from cxgrad_lite.course.zoo import lines_of_code

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"python -m cxgrad_lite ([^`#\n]+)", TEXT) + re.findall(r"-m cxgrad_lite (train [^`#\n]+)", TEXT)
PROGRAMS = [program for program in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "import" in program]
FEWER = [(r"iterations=\d+", "iterations=2"), (r"episodes=\d+", "episodes=2"), (r"episodes\(100\)", "episodes(2)")]


def test_links_lead_to_files() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", TEXT)
    assert len(targets) > 20
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("command", sorted({command.strip() for command in COMMANDS}))
def test_commands_are_understood(command: str) -> None:
    options = build_parser().parse_args(shlex.split(command))
    if options.command == "train":
        assert changed(find_recipe(options.recipe), options.set)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, known = PROGRAMS[number], set(METHODS)
    for usual, fewer in FEWER:
        program = re.sub(usual, fewer, program)
    exec(compile(program, f"README, program {number}", "exec"), {"__name__": "readme"})
    for name in set(METHODS) - known:  # the README's own method
        del METHODS[name]


def test_the_number_of_lines() -> None:
    said = re.search(r"together are ([\d,]+) lines.*?\{([a-z_,]+)\}\.py", TEXT)
    assert said
    files = [ROOT / "cxgrad_lite" / f"{name}.py" for name in said[2].split(",")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) == int(said[1].replace(",", "")) <= 1200


@pytest.mark.parametrize("file", ["README.md", "results/zoo.md"])
def test_the_lines_of_each_method(file: str) -> None:
    rows = re.findall(r"^\| (\w+) \|.* (\d+) \|$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: int(count) for name, count in rows if name in METHODS}
    assert said == {name: lines_of_code(method) for name, method in METHODS.items()}
