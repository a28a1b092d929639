"""The core in JavaScript against torch in float64: every step of an adaptation, in a real browser's web worker."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM
from pages import served
from torch import Tensor

import cxgrad_lite
from cxgrad_lite import CxGrad, Method, ProtoNet, load_checkpoint
from cxgrad_lite.commands import main
from cxgrad_lite.core.outer import Episode
from cxgrad_lite.probes import states
from cxgrad_lite.recipes.recipe import PRETRAINED
from data_utils import TaskSampler, load

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]

PACKAGE = Path(cxgrad_lite.__file__).parent
CLOSE = 1e-10  # relative to the largest number of a tensor
ZOO = "train_queries5-episodes300"
CHECKPOINTS = {  # name → shots
    f"glyphs-5way-1shot-maml-lr0.1-{ZOO}-1000it-seed0": 1,
    f"glyphs-5way-1shot-cxgrad-lr0.001-{ZOO}-1000it-seed0": 1,
    f"glyphs-5way-1shot-protonet-{ZOO}-1000it-seed0": 1,
    "glyphs-5way-5shot-maml-lr0.1-600it-seed0": 5,
    "glyphs-5way-5shot-cxgrad-lr0.01-600it-seed0": 5,
    f"omniglot_small-5way-5shot-maml-lr0.1-{ZOO}-1000it-seed0": 5,
    f"omniglot_small-5way-5shot-cxgrad-lr0.003-{ZOO}-1000it-seed0": 5,
    f"omniglot_small-5way-5shot-protonet-{ZOO}-1000it-seed0": 5,
    # Options: fewer poolings, another ε, a context that never moves.
    f"glyphs-5way-5shot-maml-lr0.01-{ZOO.replace('-', '-poolings2-')}-400it-seed0": 1,
    f"glyphs-5way-5shot-cxgrad-lr0.01-{ZOO.replace('-', '-eps0.1-')}-1000it-seed0": 1,
    f"glyphs-5way-5shot-cxgrad-lr0.01-{ZOO}-frozen_context-1000it-seed0": 1,
}

# Adapts in the worker, then asks it for the logits of every state.
RUN = """async ([address, support, labels, query]) => {
    const worker = new Worker('/live/browser/worker.js', {type: 'module'});
    const steps = [];
    const logits = await new Promise((resolve, reject) => {
        worker.onerror = event => reject(new Error(event.message ?? 'the worker did not start'));
        worker.onmessage = ({data}) => {
            if (data.error) reject(new Error(data.error));
            else if (data.logits) resolve(data.logits);
            else steps.push(data.trace);
        };
        worker.postMessage({ask: 'adapt', address, support: {images: Float64Array.from(support), labels}});
        worker.postMessage({ask: 'answer', address, images: Float64Array.from(query)});
    });
    worker.terminate();
    const plain = value => ArrayBuffer.isView(value) ? Array.from(value) : value;
    const traces = steps.slice(1).map(t => Object.fromEntries(Object.entries(t).map(([k, v]) => [k, plain(v)])));
    return {logits: logits.map(plain), traces};
}"""


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """A page of the package's own folder, in which modules and checkpoints can be loaded."""
    with served(PACKAGE) as address:
        page = browser.new_page()
        page.goto(f"{address}/live/browser/worker.js")
        yield page
        page.close()


def episode(shots: int) -> Episode:
    """A task of 5 glyphs in float64, whose images are exactly n/255."""
    tasks = TaskSampler(load("glyphs", "test"), ways=5, shots=shots, queries=3, seed=7)
    support, query = next(tasks.episodes(1))
    exact = [(images * 255).round().double() / 255 for images in (support[0], query[0])]
    return (exact[0], support[1]), (exact[1], query[1])


def in_torch(method: Method, task: Episode) -> dict[str, Any]:
    """Logits of every state and what was seen in every step, under JavaScript's names."""
    support, (images, _) = task
    with torch.no_grad():
        if isinstance(method, ProtoNet):
            return {"logits": [method.logits(method.adapt(support), images)], "traces": []}
        thetas, trace = states(method, support)  # type: ignore[arg-type]
        traces = [
            {
                "loss": seen.loss,
                "gradNorms": {n if n == "context" else f"net.{n}": norm for n, norm in seen.grad_norms.items()},
                "scaling": seen.scaling,
                "context": seen.context,
            }
            for seen in trace
        ]
        return {"logits": [method.logits(theta, images) for theta in thetas], "traces": traces}


def distance(here: Any, there: Any) -> float:
    """Largest difference, relative to the largest number expected."""
    ours, theirs = (torch.as_tensor(value, dtype=torch.float64).flatten() for value in (here, there))
    assert ours.shape == theirs.shape and ours.isfinite().all()
    scale = theirs.abs().max().item()
    return (ours - theirs).abs().max().item() / (scale or 1.0)


def differences(page: Any, path: str, method: Method, task: Episode) -> dict[str, float]:
    """What is compared → its largest relative difference over all steps."""
    (support, labels), (query, _) = task
    flat: list[Tensor] = [support.flatten(), labels, query.flatten()]
    ours, theirs = page.evaluate(RUN, [path, *(t.tolist() for t in flat)]), in_torch(method, task)
    assert len(ours["logits"]) == len(theirs["logits"]) and len(ours["traces"]) == len(theirs["traces"])
    worst = {"logits": max(distance(a, b) for a, b in zip(ours["logits"], theirs["logits"]))}
    for step, expected in zip(ours["traces"], theirs["traces"]):
        assert step["gradNorms"].keys() == expected["gradNorms"].keys()
        pairs = {"loss": (step["loss"], expected["loss"])}
        pairs |= {name: (step["gradNorms"][name], norm) for name, norm in expected["gradNorms"].items()}
        if isinstance(method, CxGrad):
            pairs |= {name: (step[name], expected[name]) for name in ("scaling", "context")}
        worst |= {name: max(worst.get(name, 0.0), distance(a, b)) for name, (a, b) in pairs.items()}
    return worst


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_step_is_torchs(page: Any, name: str) -> None:
    method = load_checkpoint(PRETRAINED / f"{name}.safetensors").double()
    worst = differences(page, f"/recipes/pretrained/{name}.safetensors", method, episode(CHECKPOINTS[name]))
    print(f"{name}: largest relative difference {max(worst.values()):.1e}")
    assert max(worst.values()) < CLOSE, worst


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            f"glyphs-5way-1shot-anil-lr0.3-{ZOO}-1000it-seed0",
            "ANIL does not run in the browser; there are MAML, CxGrad",
        ),
        ("no-such-run", "no-such-run.safetensors could not be loaded (404)"),
    ],
)
def test_what_does_not_run_is_named(page: Any, name: str, reason: str) -> None:
    with pytest.raises(Exception) as caught:
        page.evaluate(RUN, [f"/recipes/pretrained/{name}.safetensors", [0.0], [0], [0.0]])
    assert reason in str(caught.value)


def test_an_exported_file_runs_as_the_checkpoint_does(page: Any, tmp_path: Path) -> None:
    name = f"glyphs-5way-1shot-cxgrad-lr0.001-{ZOO}-1000it-seed0"
    checkpoint, exported, readable = PRETRAINED / f"{name}.safetensors", tmp_path / "w.bin", tmp_path / "w.json"
    assert (
        main(["export", name, "--out", str(exported)]) == main(["export", str(checkpoint), "--out", str(readable)]) == 0
    )
    method = load_checkpoint(checkpoint)
    assert exported.stat().st_size < 1.05 * 4 * sum(p.numel() for p in method.parameters()), "weights and little else"
    address = f"data:;base64,{base64.b64encode(exported.read_bytes()).decode()}"
    assert max(differences(page, address, method.double(), episode(1)).values()) < CLOSE
    stored = json.loads(readable.read_text())["tensors"]
    for parameter, tensor in load_checkpoint(checkpoint).state_dict().items():
        assert torch.equal(torch.tensor(stored[parameter]["values"]).view(stored[parameter]["shape"]), tensor)


@pytest.mark.parametrize(
    ("name", "out", "reason"),
    [
        (f"glyphs-5way-1shot-alfa-lr0.1-{ZOO}-1000it-seed0", "w.bin", "holds ALFA with norm 'batch', and the browser"),
        (f"glyphs-5way-1shot-maml-lr0.1-{ZOO}-1000it-seed0", "w.txt", "--out must end in .bin or .json, not w.txt"),
        ("no-such-run", "w.bin", "there is no checkpoint at"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    name: str, out: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", name, "--out", str(tmp_path / out)]) != 0
    assert reason in capsys.readouterr().err and not (tmp_path / out).exists()
