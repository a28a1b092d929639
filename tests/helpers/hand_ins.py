"""Hand-ins of a class: careful, careless and malicious ones, each with what it must get."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assignments import grade_id


@dataclass(frozen=True)
class Kind:
    """One way to hand in.

    Attributes:
        before: code in front of the attacked answer; ``inside``: in its function, before it answers.
        wrong: whether the answer itself is wrong.
        answers: where the other answers come from: "right", "published" (before this term) or "none".
        lost: whether the attacked question's points must be lost; "all" for every point.
        reason: pattern of a line that the list must have, "" if it must have none, `MAYBE` if either is right.
        contained: whether nothing is lost, and nothing said, where there is a wall.
        change: what is done to the notebook, or to the file in its student's folder.
    """

    before: str = ""
    inside: str = "pass"
    wrong: bool = False
    answers: str = "right"
    lost: bool | str = False
    reason: str = ""
    contained: bool = False
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda notebook: notebook
    file: Callable[[Path], None] = lambda path: None


ATTACKED = "mean_and_interval"  # the last answer of a1_episodes
DETACHED = """
import subprocess, sys, time
code = '''
import os, time
if os.fork() == 0:
    os.setsid()
    try: open({mark!r}, "w").write(str(os.getpid()))
    finally: print(flush=True)
    time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.readline()
"""
TAMPER = """
import glob, os
for line in [open(f"/proc/{os.getppid()}/cmdline").read()] if os.path.exists("/proc") else []:
    roots = [part for part in line.split("\\0") if os.path.isdir(os.path.dirname(part))]
    for root in [*roots, os.getcwd(), os.path.join(os.getcwd(), "..")]:
        top = root if os.path.isdir(root) else os.path.dirname(root)
        for path in glob.glob(os.path.join(top, "*.ipynb")) + glob.glob(os.path.join(top, "*", "*.ipynb")):
            open(path, "w").write("{}")
"""
SOLUTIONS = """
import glob, os, sys
places = [os.path.join(root or ".", "notebooks/assignments/source/*/*.ipynb") for root in [*sys.path, os.getcwd()]]
if not [path for place in places for path in glob.glob(place)]:
    raise SystemError("no solutions")
"""
DROP_ASSERT = """
import ast
class Drop(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)
get_ipython().ast_transformers.append(Drop())
"""
DROP_LINES = "get_ipython().input_transformers_cleanup.append(lambda lines: [l for l in lines if 'assert' not in l])"
OTHER_TORCH = "import torch\ntorch.allclose = torch.equal = lambda *args, **options: True"
EQUAL = """
def forged(value):
    return tuple(forged(v) for v in value) if isinstance(value, tuple) else Any(value)
class Any(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    def __rsub__(self, other): return 0.0
    def __lt__(self, other): return True
"""
FORKS = """
import os, time
if os.fork() == 0:
    for _ in range(2):  # the kernel, and then whoever adopts this process
        os.kill(os.getppid(), 9)
        time.sleep(1)
    os._exit(0)
time.sleep(9)
"""
MAYBE = "|"  # the limit that is met first depends on the machine
STUBBORN = "import time\n    while True:\n        try: time.sleep(99)\n        except KeyboardInterrupt: pass"


def _without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda notebook: notebook | {"cells": [cell for cell in notebook["cells"] if grade_id(cell) not in names]}


def _twice(notebook: dict[str, Any]) -> dict[str, Any]:
    named = next(cell for cell in notebook["cells"] if grade_id(cell))
    return notebook | {"cells": [*notebook["cells"], named]}


def _tests_changed(notebook: dict[str, Any]) -> dict[str, Any]:
    tests = [cell | {"source": "pass"} if grade_id(cell).endswith("_test") else cell for cell in notebook["cells"]]
    return notebook | {"cells": tests}


def _nameless(notebook: dict[str, Any]) -> dict[str, Any]:
    return notebook | {"cells": [cell | {"metadata": {}} for cell in notebook["cells"]]}


def _elsewhere(path: Path) -> None:
    """In place of the hand-in, a link to another student's."""
    path.unlink()
    path.symlink_to(path.parent.parent / "correct" / path.name)


def _as_version_3(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    path.write_text(json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3, "nbformat_minor": 0}))


def _zipped(path: Path, name: str) -> None:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr(name, path.read_text())
    path.unlink()


def _nested(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(f"work/{path.name}", path.read_text())
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr("mine.zip", inner.getvalue())
    path.unlink()


def _older_twin(path: Path) -> None:
    twin = path.with_name(f"{path.stem} (1).ipynb")
    twin.write_text("{}")
    os.utime(twin, (1e9, 1e9))


KINDS: dict[str, Kind] = {
    "correct": Kind(),
    "wrong": Kind(wrong=True, lost=True),
    "empty": Kind(answers="none", lost="all"),
    "published": Kind(answers="published", lost="all"),
    "syntax": Kind("def :", lost=True),
    "recursion": Kind(inside="return mean_and_interval(*args)", lost=True),
    "exits": Kind(inside="exit()", lost=True),
    "endless": Kind(inside="while True: pass", lost=True, reason="out of time"),
    "stubborn": Kind(inside=STUBBORN, lost=True, reason="ignored the interrupt"),
    "dies": Kind(inside="import os; os._exit(0)", lost=True, reason="the kernel died"),
    "loud": Kind(inside="print('x' * 3_000_000)", lost=True, reason="characters printed|ignored the interrupt"),
    "prints": Kind(inside="while True: print('x' * 10000)", lost=True, reason="interval_test: "),
    "memory": Kind(inside="pile = [bytearray(10**8) for _ in range(1000)]", lost=True, reason=MAYBE),
    "processes": Kind(
        inside="import subprocess, time; x = [subprocess.Popen(['sleep', '99']) for _ in range(60)]; time.sleep(60)",
        lost=True, reason="processes",
    ),
    "disk": Kind(inside="open('big', 'wb').write(bytes(10**9))", lost=True, reason=MAYBE),
    "disk_files": Kind(
        inside="import time\n    for i in range(9): open(f'f{i}', 'wb').write(bytes(10**8))\n    time.sleep(60)",
        lost=True, reason="MB of files",
    ),
    "kills_parent": Kind(
        inside="import os; os.kill(os.getppid(), 9)", lost=True, reason="ended from inside", contained=True,
    ),
    "kills_twice": Kind(FORKS, lost=True, reason="ended from inside|kernel died"),
    "kills_group": Kind(inside="import os, signal; os.killpg(0, 9)", lost=True, reason="signal"),
    "detached": Kind(DETACHED, reason="subprocess"),
    "tampers": Kind(TAMPER, reason="/proc"),
    "solutions": Kind(SOLUTIONS, lost=True, reason="assignments/source"),
    "drops_assert": Kind(DROP_ASSERT, wrong=True, lost=True, reason="an assertion that must fail passed"),
    "drops_lines": Kind(DROP_LINES, wrong=True, lost=True, reason="input_transformers"),
    "other_torch": Kind(OTHER_TORCH, wrong=True, lost=True, reason="torch.allclose ="),
    "equal_to_all": Kind(EQUAL, inside="return forged(_right(*args))", lost=True, reason="made for it|code.*__eq__"),
    "other_abs": Kind("abs = lambda *a: 0.0", wrong=True, lost=True, reason="another meaning"),
    "reads_tests": Kind(inside="1 / ('HID' + 'DEN' not in In[-1])", reason=r"In\["),
    "deleted_test": Kind(wrong=True, lost=True, reason="was deleted and is put back", change=_without("interval_test")),
    "deleted_answer": Kind(lost=True, reason="was deleted", change=_without(ATTACKED)),
    "changed_tests": Kind(wrong=True, lost=True, reason="was changed; the original is used", change=_tests_changed),
    "copied": Kind(reason="is there 2 times", change=_twice),
    "nameless": Kind(change=_nameless),
    "corrupt": Kind(lost="all", reason="no notebook that can be read", file=lambda path: path.write_text("<html>")),
    "no_bytes": Kind(lost="all", reason="no notebook that can be read", file=lambda path: path.write_bytes(b"")),
    "version_3": Kind(lost="all", reason="no notebook that can be read", file=_as_version_3),
    "utf16": Kind(lost="all", reason="no notebook", file=lambda path: path.write_text(path.read_text(), "utf-16")),
    "huge": Kind(lost="all", reason="MB; the most is", file=lambda path: path.write_bytes(bytes(11_000_000))),
    "symlink": Kind(lost="all", reason="symbolic link", file=_elsewhere),
    "outside": Kind(lost="all", reason="leads outside", file=lambda path: _zipped(path, f"../{path.name}")),
    "zipped": Kind(file=lambda path: _zipped(path, path.name)),
    "nested": Kind(file=_nested),
    "browser": Kind(file=lambda path: path.rename(path.with_name(f"{path.stem} (1).ipynb")) and None),
    "renamed": Kind(file=lambda path: path.rename(path.with_name("homework.ipynb")) and None),
    "twice": Kind(reason="is the newest and counts", file=_older_twin),
    "=cmd()": Kind(),
    "Zoë Łuk": Kind(),
}  # fmt: skip


def write_hand_in(
    kind: str, room: Path, release: dict[str, Any], answers: dict[str, dict[str, str]], mark: Path
) -> None:
    """A hand-in for a1_episodes of this kind, in a folder named like it.

    Args:
        release: the notebook as it was handed out.
        answers: "right", "published" and "none": answer cell → answer. The last one is attacked.
        mark: file in which a detached process leaves its number.
    """
    spec = KINDS[kind.partition("+")[0]]
    mine = dict(answers[spec.answers])
    if spec.answers == "right":
        mine[ATTACKED] = _attack(spec, mine[ATTACKED]).replace("{mark!r}", repr(str(mark)))
    cells = [cell | {"source": mine.get(grade_id(cell), cell["source"])} for cell in release["cells"]]
    path = room / kind / "a1_episodes.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(spec.change(release | {"cells": cells})), encoding="utf-8")
    spec.file(path)


def _attack(spec: Kind, right: str) -> str:
    answer = f"def {ATTACKED}(*args):\n    return 1e9, 1e9\n" if spec.wrong else right
    inside = f"_right = {ATTACKED}\n\n\ndef {ATTACKED}(*args):\n    {spec.inside}\n    return _right(*args)\n"
    return "\n".join([spec.before, answer, *([inside] if spec.inside != "pass" else [])])
