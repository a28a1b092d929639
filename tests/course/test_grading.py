"""Grading: names that learning platforms give, damaged notebooks, canaries. `test_class.py` has the whole way."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from assignments import ASSIGNMENTS

from cxgrad_lite.course.canaries import broken, canary
from cxgrad_lite.course.collect import collect
from cxgrad_lite.course.handout import read, released
from cxgrad_lite.course.restore import name_of, read_hand_in, restored

SOURCE = read(ASSIGNMENTS / "source" / "a1_episodes" / "a1_episodes.ipynb")


# --- hand-ins in the forms of learning platforms

NAMES = {"a1_episodes": {"sample_episode", "prototypes"}, "a2_maml": {"inner_step", "adapt"}}


def placed(folder: Path, *names: str) -> list[tuple[str, str, str]]:
    """Student, assignment and refusal of files with these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return [(h.student, h.assignment, h.refusal) for h in collect(folder, NAMES)]


@pytest.mark.parametrize(
    "name, student",
    [
        ("ann/a1_episodes.ipynb", "ann"),
        ("ann/a1_episodes/a1_episodes.ipynb", "ann"),
        ("a1_episodes/ann/a1_episodes.ipynb", "ann"),
        ("ann_12345_a1_episodes-1.ipynb", "ann"),
        ("annsmith_LATE_12345_67890_a1_episodes (1).ipynb", "annsmith"),
        ("Ann Smith_12345_assignsubmission_file_/a1_episodes.ipynb", "Ann_Smith"),
        ("Ann Smith - a1_episodes.ipynb", "Ann_Smith"),
        ("Week 1/ann_12345_a1_episodes.ipynb", "ann"),
        ("Zoë Łuk/a1_episodes (2).ipynb", "Zoë_Łuk"),
    ],
)
def test_a_platforms_names(tmp_path: Path, name: str, student: str) -> None:
    assert placed(tmp_path, name) == [(student, "a1_episodes", "")]


def test_zips_of_platforms(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "submissions.zip", "w") as archive:
        archive.writestr("ann_1_2_a1_episodes.ipynb", "{}")
        archive.writestr("Bob Ray_77_assignsubmission_file/a2_maml.ipynb", "{}")
        archive.writestr("eve_5_6_a1_episodes.ipynb/../../../x.ipynb", "{}")
        archive.writestr("__MACOSX/._a1_episodes.ipynb", "{}")
    whole = [(h.student, h.assignment, h.refusal) for h in collect(tmp_path / "submissions.zip", NAMES)]
    assert ("ann", "a1_episodes", "") in whole and ("Bob_Ray", "a2_maml", "") in whole and len(whole) == 3
    assert [refusal for *_, refusal in whole if refusal] != []


def test_two_students_of_one_name_stay_two(tmp_path: Path) -> None:
    given = placed(tmp_path, "ann_1_a1_episodes.ipynb", "ann_2_a1_episodes.ipynb")
    assert [student for student, *_ in given] == ["ann_1", "ann_2"]


def test_a_file_that_names_another_student_counts_for_its_folder(tmp_path: Path) -> None:
    given = placed(tmp_path, "ann/a1_episodes.ipynb", "eve/ann_12345_a1_episodes.ipynb")
    assert [student for student, *_ in given] == ["ann", "eve"]


def test_a_folder_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no .*; name the folder"):
        collect(tmp_path / "missing", NAMES)
    with pytest.raises(ValueError, match="holds nothing that names a student"):
        collect(tmp_path, NAMES)


# --- deleted, copied and changed cells


@pytest.mark.parametrize(
    "content", ["", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "\xff", "[" * 100_000]
)
def test_what_is_no_notebook_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="is no notebook"):
        read_hand_in(content.encode("latin-1"))


def test_any_damage_leaves_every_cell_in_its_place_once() -> None:
    import random

    draw = random.Random(0)
    order = [name_of(cell) for cell in SOURCE["cells"] if name_of(cell)]
    own: dict[str, Any] = {"cell_type": "code", "metadata": {}, "source": "own", "outputs": []}
    for _ in range(200):
        cells = [c for cell in released(SOURCE)["cells"] for c in [cell, own] * draw.choice([0, 1, 1, 2])]
        whole, _ = restored(SOURCE, read_hand_in(json.dumps({"cells": cells}).encode()))
        assert [name_of(cell) for cell in whole["cells"] if name_of(cell)] == order
        assert sum(cell["source"] == "own" for cell in whole["cells"]) == sum(cell is own for cell in cells)


def test_an_answer_that_lost_its_name_comes_before_its_test() -> None:
    cells = [cell | {"metadata": {}, "id": "new"} for cell in released(SOURCE)["cells"]]
    whole, _ = restored(SOURCE, read_hand_in(json.dumps({"cells": cells}).encode()))
    sources = ["".join(cell["source"]) for cell in whole["cells"]]
    assert next(i for i, s in enumerate(sources) if s.startswith("def mean_and_interval")) < next(
        i for i, s in enumerate(sources) if s.startswith("torch.manual_seed(105)")
    )


# --- canaries

TEST = "given = answer()\nassert torch.allclose(given, torch.ones(2)), 'wrong'"


class Equal(float):
    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "names, reason",
    [
        ({}, ""),
        ({"given": Equal(1.0)}, "given is of a class that was made for it"),
        ({"given": [1.0, (Equal(1.0),)]}, "given is of a class that was made for it"),
        ({"abs": lambda *a: 0}, "a built-in function has another meaning"),
        ({"all": lambda *a: True}, "a built-in function has another meaning"),
    ],
)
def test_a_canary_ends_as_it_must_and_notices_forgeries(names: dict[str, Any], reason: str) -> None:
    import torch

    why = died({"torch": torch, "given": torch.ones(2)} | names)
    assert why.removeprefix("the canary: ") == reason


def test_a_canary_notices_a_torch_that_calls_everything_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for name in ("allclose", "equal"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, name, lambda *a, **k: True)
            assert "torch says that 0 and 1 are equal" in died({"given": 1.0})


def died(space: dict[str, Any]) -> str:
    """Why the canary of `TEST` distrusts these names, "" if it does not."""
    code, mark = canary(TEST)
    with pytest.raises(Exception) as death:
        exec(code, space | {"__name__": "__main__"})
    return broken(
        [{"output_type": "error", "ename": death.type.__name__, "evalue": str(death.value).split("\n")[0]}], mark
    )


def test_a_canary_that_survives_is_a_reason() -> None:
    assert broken([], "mark") == "an assertion that must fail passed"
