"""The main claims of the notebooks are cells that assert them; here the method is broken on purpose, and they fail.

A claim runs in this process, with only the cells that it needs. Where a notebook averages over many tasks, fewer are
enough to tell a method that works from a broken one; trained networks are those that are shipped.
"""

from __future__ import annotations

import dis
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cxgrad_lite.core.nets
import data_utils
from cxgrad_lite import MAML, Conv4, CxGrad, NearestPixels
from data_utils import TaskSampler

FOLDER = Path(__file__).parents[2] / "notebooks"
pytestmark = pytest.mark.slow
Break = Callable[[pytest.MonkeyPatch], None]


def constant(cls: type, name: str, value: Any) -> Break:
    """Every object of the class has this value in an attribute, whatever is assigned to it."""
    fixed = property(lambda self: value, lambda self, given: None)
    return lambda patch: patch.setattr(cls, name, fixed, raising=False)


def scaling(divide: bool) -> Break:
    """CxGrad's kernels get norm 1, or keep the norm that they have, whatever the generator says."""

    def scale(self: CxGrad, theta: Any) -> Any:
        one = 1 + 0 * self.generator(theta.get("context", self.zero_context()))  # the graph stays
        kernels = {n: g * theta[n] / (theta[n].norm() if divide else 1) for n, g in zip(self.kernels, one)}
        return {**theta, **kernels}, one

    return lambda patch: patch.setattr(CxGrad, "scale", scale)


def head_not_fast(patch: pytest.MonkeyPatch) -> None:
    """The head is no part of the inner loop."""
    usual = MAML.is_fast
    patch.setattr(MAML, "is_fast", lambda self, name: usual(self, name) and not name.startswith("head."))


def held(part: str) -> Break:
    """Tensors with this in their names are part of the inner loop, but have rate 0."""
    usual = MAML.rate
    return lambda patch: patch.setattr(
        MAML, "rate", lambda self, name, k: 0.0 if part in name else usual(self, name, k)
    )


def uphill(patch: pytest.MonkeyPatch) -> None:
    """Inner steps of the wrong sign."""
    usual = MAML.gradients

    def reversed_gradients(self: MAML, theta: Any, batch: Any) -> Any:
        loss, grads = usual(self, theta, batch)
        return loss, {name: -grad for name, grad in grads.items()}

    patch.setattr(MAML, "gradients", reversed_gradients)


def norm_is(make: Callable[[int], nn.Module]) -> Break:
    """This module, made from the number of channels, instead of the normalisation that was asked for."""
    return lambda patch: patch.setattr(cxgrad_lite.core.nets, "make_norm", lambda norm, width, eps: make(width))


def unit_features(patch: pytest.MonkeyPatch) -> None:
    """The head sees features of length 1, however many there are."""
    usual = Conv4.features
    patch.setattr(Conv4, "features", lambda self, images: F.normalize(usual(self, images), dim=1))


def leaking_split(patch: pytest.MonkeyPatch) -> None:
    """Meta-test classes are meta-train classes."""
    load = data_utils.load
    patch.setattr(data_utils, "load", lambda name, split: load(name, "train"))


def no_seed(patch: pytest.MonkeyPatch) -> None:
    """Every stream of tasks starts somewhere else."""
    seeds = itertools.count()
    patch.setattr(TaskSampler, "_new_generator", lambda self: torch.Generator().manual_seed(next(seeds)))


def guessing(patch: pytest.MonkeyPatch) -> None:
    """Answers that do not depend on the task."""
    generator = torch.Generator().manual_seed(0)
    patch.setattr(NearestPixels, "logits", lambda self, theta, images: torch.rand(len(images), 5, generator=generator))


def one_task(patch: pytest.MonkeyPatch) -> None:
    """Each task comes fifty times in a row, so that fifty tasks are one."""
    usual = TaskSampler.episodes
    often = lambda self, count: (e for e in usual(self, -(-count // 50)) for _ in range(50))  # noqa: E731
    patch.setattr(TaskSampler, "episodes", often)


def forgetful_stream(patch: pytest.MonkeyPatch) -> None:
    """A resumed run begins the stream of tasks anew."""
    patch.setattr(TaskSampler, "load_state_dict", lambda self, state: None)


BREAKS: dict[str, Break] = {
    "γ = 1": scaling(divide=True),
    "no scaling": scaling(divide=False),
    "no context update": constant(CxGrad, "context_lr", 0.0),
    "head not fast": head_not_fast,
    "head held": held("head."),
    "body held": held("blocks."),
    "context held": held("context"),
    "uphill": uphill,
    "nothing moves": held(""),
    "first order": constant(MAML, "second_order", False),
    "no norm": norm_is(lambda width: nn.Sequential()),
    "ε = 1e-5": norm_is(lambda width: nn.BatchNorm2d(width, track_running_stats=False)),
    "unit features": unit_features,
    "leaking split": leaking_split,
    "no seed": no_seed,
    "guessing": guessing,
    "forgetful stream": forgetful_stream,
    "one task, often": one_task,
}


@dataclass(frozen=True)
class Claim:
    """A cell of a notebook that asserts something.

    Attributes:
        notebook: its number.
        marker: text that occurs in this cell only.
        breaks: each of them makes the cell fail.
        fewer: replacements in the cells that the claim needs, such as a smaller number of episodes.
    """

    notebook: str
    marker: str
    breaks: tuple[str, ...]
    fewer: dict[str, str] = field(default_factory=dict)


CLAIMS = {
    "00 training helps": Claim("00", "assert gain.mean > gain.ci95", ("uphill", "nothing moves")),
    "01 same seed, same tasks": Claim("01", "torch.equal(again[0][0], more[0][0])", ("no seed",)),
    "01 intervals over tasks": Claim("01", 'assert kept["intervals over tasks"] > 85', ("guessing", "one task, often")),
    "01 nothing leaks": Claim("01", 'assert not alphabets["train"]', ("leaking split",)),
    "02 the package does the same": Claim(
        "02", "assert worst < 1e-10", ("first order", "head not fast", "head held", "uphill")
    ),
    "03 the head's gradient grows with the map": Claim("03", "abs(factors[0] - 2) < 0.2", ("unit features",)),
    "04 equations 4 and 5": Claim("04", "a × gradient of block 4, and all other", ("no norm", "ε = 1e-5")),
    "05 equation 5": Claim("05", "abs(loss - scaled_loss)", ("no norm",)),
    "05 the package does the same": Claim(
        "05",
        "the same adapted weights, the same context",
        ("γ = 1", "no context update", "head held", "uphill", "first order"),
    ),
    "06 the body carries the adaptation": Claim(
        "06", "the body alone does not carry", ("γ = 1", "body held", "uphill"), {"TASKS = 12": "TASKS = 2"}
    ),
    "06 the head moves a little": Claim(
        "06", "MAML's head moves a little", ("head held",), {"TASKS = 12": "TASKS = 3"}
    ),
    "07 the crack is ε": Claim("07", "ε a million times smaller", ("no norm", "ε = 1e-5", "γ = 1")),
    "08 what moves": Claim("08", "moves_picture(moves)", ("head held", "context held")),
    "08 shipped numbers are true": Claim(
        "08", "methods checked on the first 30 tasks", ("uphill",), {"episodes=30": "episodes=3"}
    ),
    "08 CxGrad moves block 4": Claim(
        "08", 'relative_steps("CxGrad")["block 4"] > 3', ("γ = 1", "no scaling"), {"test, 10": "test, 2"}
    ),
    "09 a break changes nothing": Claim(
        "09",
        "meta-iterations with a break",
        ("forgetful stream",),
        {"iterations=8": "iterations=3", "== 3": "== 1", "== 8": "== 3"},
    ),
    "10 layer norm needs no company": Claim(
        "10",
        "with_layer_norm == with_layer_norm",
        ("ε = 1e-5",),
        {
            'draw_doodles("doodles")': "draw_doodles(tempfile.mkdtemp())",
            "range(20)": "range(1)",
            "episodes=16)": "episodes=2)",
            "episodes=300": "episodes=3",
            "episodes=100": "episodes=3",
            "iterations=15": "iterations=1",
            "iterations=80": "iterations=1",
            "episodes=12": "episodes=2",
            "episodes=6)": "episodes=2)",
        },
    ),
}


def names_of(cell: str) -> tuple[set[str], set[str]]:
    """What a cell reads of what was there before it, and what it binds."""
    reads: set[str] = set()
    binds: set[str] = set()
    inner: list[CodeType] = []
    # Of the bytecode: a comprehension's own variables are not among a module's names there, in no version of Python.
    for instruction in dis.get_instructions(compile(cell, "cell", "exec")):
        if instruction.opname == "STORE_NAME":
            binds.add(instruction.argval)
        elif instruction.opname == "LOAD_NAME" and instruction.argval not in binds:
            reads.add(instruction.argval)
        elif isinstance(instruction.argval, CodeType):
            inner.append(instruction.argval)
    for code in inner:  # functions run when the whole cell has bound its names
        inner += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        reads |= {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")} - binds
    return reads, binds


def needed(cells: list[str]) -> list[str]:
    """Those of the cells whose names the last one uses, directly or by another cell; the last one with them."""
    wanted, _ = names_of(cells[-1])
    chosen = [cells[-1]]
    for cell in reversed(cells[:-1]):
        reads, binds = names_of(cell)
        if wanted & binds:
            chosen.insert(0, cell)
            wanted = (wanted - binds) | reads
    return chosen


def code_cells(number: str) -> list[str]:
    """Sources of the code cells of a notebook, without the one that installs the package."""
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [source for source in sources if "%pip" not in source]


def cells_of(claim: Claim) -> list[str]:
    if not list(FOLDER.glob(f"{claim.notebook}_*.ipynb")):
        pytest.skip(f"notebook {claim.notebook} is not there yet")
    sources = code_cells(claim.notebook)
    (place,) = [i for i, source in enumerate(sources) if claim.marker in source]
    cells = needed(sources[: place + 1])
    for old, new in claim.fewer.items():
        assert any(old in cell for cell in cells), f"{old!r} is not in the cells that the claim needs"
        cells = [cell.replace(old, new) for cell in cells]
    return cells


def run(cells: list[str], namespace: dict[str, Any]) -> None:
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number} of {len(cells)}", "exec"), namespace)


def test_every_notebook_has_a_claim() -> None:
    numbers = {path.name[:2] for path in FOLDER.glob("*.ipynb") if re.match(r"\d\d_", path.name)}
    assert numbers <= {claim.notebook for claim in CLAIMS.values()}
    broken = {name for claim in CLAIMS.values() for name in claim.breaks}
    assert broken == set(BREAKS)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_holds(name: str) -> None:
    run(cells_of(CLAIMS[name]), {})


@pytest.mark.parametrize(("name", "broken"), [(name, broken) for name, c in CLAIMS.items() for broken in c.breaks])
def test_the_claim_fails_when_broken(name: str, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    *before, claim = cells_of(CLAIMS[name])
    BREAKS[broken](monkeypatch)
    namespace: dict[str, Any] = {}
    run(before, namespace)
    with pytest.raises(AssertionError) as failure:
        run([claim], namespace)
    assert failure.type is AssertionError
