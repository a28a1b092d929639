"""Float64 agreement with numbers computed by the authors' own code. These tests never skip."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cxgrad_lite import ALFA, ANIL, BOIL, CAVIA, L2F, MAML, Conv4, CxGrad, MAMLPlusPlus, ModGrad
from cxgrad_lite.core.method import Batch, StepTrace
from cxgrad_lite.core.nets import Activation

REFERENCE = Path(__file__).parents[1] / "reference"
TOLERANCE = 1e-9
TRAJECTORIES = ["cxgrad_5way1shot_28px", "maml_5way1shot_28px", "maml_first_order_5way2shot_28px"]
OFFICIAL = json.loads((REFERENCE / "official_meta_gradients.json").read_text())
OFFICIAL["cases"] |= json.loads((REFERENCE / "modgrad_meta_gradients.json").read_text())["cases"]


def assert_close(ours: Tensor | float, theirs: Tensor | float, what: str) -> None:
    ours, theirs = torch.as_tensor(ours, dtype=torch.float64), torch.as_tensor(theirs, dtype=torch.float64)
    assert ours.shape == theirs.shape, what
    largest = theirs.abs().max()
    error = (ours.detach() - theirs).abs().max()
    allowed = 1e-12 if largest < 1e-12 else TOLERANCE * largest
    assert error <= allowed, f"{what}: differs by {error:.3g}, allowed {allowed:.3g}"


# --- whole trajectories -----------------------------------------------------------------------------------------------


def our_name(theirs: str) -> str:
    """conv0.weight → net.blocks.0.conv.weight, conv0.bn.bias → net.blocks.0.norm.bias, linear → net.head."""
    if theirs.startswith("generator"):
        return theirs
    layer, _, rest = theirs.partition(".")
    if layer == "linear":
        return f"net.head.{rest}"
    return f"net.blocks.{layer[-1]}." + (rest.replace("bn", "norm") if "bn" in rest else f"conv.{rest}")


@pytest.fixture(scope="module", params=TRAJECTORIES)
def trajectory(request: pytest.FixtureRequest) -> dict:
    with np.load(REFERENCE / f"{request.param}.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def build(trajectory: dict, config: dict) -> MAML:
    channels = trajectory["x_support"].shape[3]
    net = Conv4(channels, config["size"], config["ways"], config["filters"])
    options = dict(inner_lr=config["inner_lr"], inner_steps=config["steps"], second_order=not config["first_order"])
    method = (
        CxGrad(net, **options, context_dim=config["context_dim"], context_lr=config["context_lr"])
        if config["method"] == "cxgrad"
        else MAML(net, **options)
    ).double()
    state = {our_name(key[5:]): torch.from_numpy(v) for key, v in trajectory.items() if key.startswith("init/")}
    method.load_state_dict(state, strict=True)
    return method


def episode(trajectory: dict, task: int) -> tuple[Batch, Batch]:
    def batch(part: str) -> Batch:
        images = torch.from_numpy(trajectory[f"x_{part}"][task]).double()
        return images.flatten(0, 1), torch.from_numpy(trajectory[f"y_{part}"][task]).long().flatten()

    return batch("support"), batch("query")


def test_whole_trajectory(trajectory: dict) -> None:
    config = ast.literal_eval(str(trajectory["config"]))
    method = build(trajectory, config)
    losses = []
    for task in range(config["tasks"]):
        support, query = episode(trajectory, task)
        theta, trace = method.adapt(support, trace=True)
        assert len(trace) == config["steps"]
        for k, seen in enumerate(trace):
            check_step(seen, trajectory, f"task{task}/step{k}")
        for key in (key for key in trajectory if key.startswith(f"task{task}/adapted/")):
            name = our_name(key.split("/")[2]).removeprefix("net.")
            assert_close(theta[name], torch.from_numpy(trajectory[key]), key)
        assert_close(method.logits(theta, query[0]), torch.from_numpy(trajectory[f"task{task}/query_logits"]), "logits")
        losses.append(method(support, query))
    loss = torch.stack(losses).mean()
    assert_close(loss, float(trajectory["query_loss"]), "query loss")
    loss.backward()
    for name, parameter in method.named_parameters():
        (key,) = (key for key in trajectory if key.startswith("meta_grad/") and our_name(key[10:]) == name)
        assert parameter.grad is not None, name
        assert_close(parameter.grad, torch.from_numpy(trajectory[key]), key)


def check_step(seen: StepTrace, trajectory: dict, step: str) -> None:
    assert_close(seen.loss, float(trajectory[f"{step}/support_loss"]), f"{step}/support_loss")
    compared = 0
    for key in (key for key in trajectory if key.startswith(f"{step}/") and "_norm/" in key):
        _, _, kind, theirs = key.split("/")
        norms = seen.weight_norms if kind == "weight_norm" else seen.grad_norms
        assert_close(norms[our_name(theirs).removeprefix("net.")], float(trajectory[key]), key)
        compared += 1
    assert compared == 12  # weight and gradient of 4 kernels, head weight, head bias
    if seen.context is not None:
        assert seen.scaling is not None
        assert_close(seen.context, torch.from_numpy(trajectory[f"{step}/context"]), f"{step}/context")
        gammas = [float(trajectory[f"{step}/weight_norm/conv{i}.weight"]) for i in range(4)]
        assert_close(seen.scaling, torch.tensor(gammas, dtype=torch.float64), f"{step}/gamma")


# --- query losses and meta-gradient norms on closed-form weights ------------------------------------------------------

CASES = {
    "CxGrad": lambda net: CxGrad(net),
    "MAML": lambda net: MAML(net),
    "MAML-torchmeta": lambda net: MAML(net, inner_lr=0.5, inner_steps=1, adapt_norm=True),
    "ANIL": lambda net: ANIL(net, inner_lr=0.5, inner_steps=1),
    "BOIL": lambda net: BOIL(net),
    "ALFA": lambda net: ALFA(net),
    "L2F": lambda net: L2F(net),
    "MAML++": lambda net: MAMLPlusPlus(net, inner_lr=0.01),
    "CAVIA": lambda net: CAVIA(net, context_dim=8),
    "ModGrad": lambda net: ModGrad(net, context_dim=10),
}
CONV_BIAS = ("ALFA", "MAML++", "CAVIA", "BOIL", "ANIL", "MAML-torchmeta", "ModGrad")
FAST = [f"{layer}.{part}" for layer in (*(f"blocks.{i}.conv" for i in range(4)), "head") for part in ("weight", "bias")]
RELU = ("CAVIA", "BOIL", "ANIL", "MAML-torchmeta", "ModGrad")


def our_official_name(theirs: str) -> str:
    """The same translation for the names of six other repositories."""
    name = theirs.removesuffix("GAIN").replace("gamma_generator", "generator")
    if name.startswith("generators."):
        table, tensor, rest = name.split(".", 2)
        return f"{table}.{FAST.index(tensor.replace('-', '.')) - 4}.{rest}"  # blocks 2 and 3 are fast
    if name.startswith(("net", "generator", "regularizer", "attenuator")):
        return name
    if name.startswith("inner_loop_optimizer."):
        _, table, tensor = name.split(".")
        tensor = our_official_name(tensor.replace("layer_dict-", "").replace("-", ".")).removeprefix("net.")
        return f"{'decays' if 'beta' in table else 'rates'}.{FAST.index(tensor)}"
    if name.startswith("features."):
        _, block, part, rest = name.split(".")
        return f"net.blocks.{block}.{'conv' if part == '0' else 'norm'}.{rest}"
    layer, _, rest = name.partition(".")
    if layer.startswith(("bn", "film")) or layer[:-1] == "conv" and rest in ("weight", "bias"):  # CAVIA counts from 1
        part = {"b": "norm", "f": "film", "c": "conv"}[layer[0]]
        return f"net.blocks.{int(layer[-1]) - 1}.{part}.{rest}"
    name = name.replace("classifier.layer_dict.", "").replace("norm_layer", "norm").replace("linear.weights", "weight")
    name = name.replace("classifier.", "").replace("linear.", "").replace("fc1.", "")
    return f"net.blocks.{name[4:]}" if name.startswith("conv") else f"net.head.{name}"


def closed_form(case: dict) -> dict[str, Tensor]:
    """`fill_rule` of the file: 0.3 sin(0.7 j + i), for gains 1 + 0.1 sin(0.7 j + i)."""
    state = {}
    for i, (name, shape) in enumerate(case["fill_order"]):
        wave = torch.sin(0.7 * torch.arange(math.prod(shape), dtype=torch.float64) + i).reshape(shape)
        state[our_official_name(name)] = 1 + 0.1 * wave if name.endswith("GAIN") else 0.3 * wave
    return state


def closed_form_images(size: int, task: int) -> tuple[Batch, Batch]:
    """`image_rule` of the file: 5 ways, 2 shots, 3 queries, 3 channels."""
    c = torch.arange(5, dtype=torch.float64).view(5, 1, 1)
    s = torch.arange(5, dtype=torch.float64).view(1, 5, 1)
    p = torch.arange(3 * size * size, dtype=torch.float64)
    pixels = 0.5 + 0.25 * torch.sin(0.013 * (c + 1) * p + task) + 0.25 * torch.sin(0.71 * p + 1.7 * s + 2.3 * c)
    images = pixels.view(5, 5, 3, size, size)
    labels = torch.arange(5)
    support = images[:, :2].flatten(0, 1), labels.repeat_interleave(2)
    return support, (images[:, 2:].flatten(0, 1), labels.repeat_interleave(3))


@pytest.mark.parametrize("name", CASES)
def test_official_meta_gradient(name: str) -> None:
    case = OFFICIAL["cases"][name]
    activation: Activation = "relu" if name in RELU else "leaky_relu"
    net = Conv4(3, case["image_size"], 5, width=6, activation=activation, conv_bias=name in CONV_BIAS)
    method = CASES[name](net).double()
    starts = {"rates": 0.01, "decays": 5e-6}  # in float64, unlike what the method was built with
    for key, parameter in method.named_parameters():
        with torch.no_grad():
            parameter.fill_(starts.get(key.partition(".")[0], torch.nan))
    method.load_state_dict(method.state_dict() | closed_form(case), strict=True)
    method.begin_iteration(500 * (case.get("multi_step_loss_epoch") or 0))

    episodes = [closed_form_images(case["image_size"], task) for task in range(case["tasks"])]
    losses = torch.stack([method(support, query) for support, query in episodes])
    loss = losses.sum() if case.get("reduction") == "sum over tasks" else losses.mean()
    assert_close(loss, case["outer_loss"], "query loss")
    loss.backward()
    theirs = {our_official_name(key): norm for key, norm in case["grad_norms"].items()}
    assert theirs.keys() == {name for name, _ in method.named_parameters()}
    for key, parameter in method.named_parameters():
        assert parameter.grad is not None, key
        assert_close(parameter.grad.norm(), theirs[key], key)


def test_last_context_of_the_official_case() -> None:
    """The file's note gives γ and |c| at the end of the last task, to ten and to all digits."""
    case = OFFICIAL["cases"]["CxGrad"]
    method = CxGrad(Conv4(3, case["image_size"], 5, width=6)).double()
    method.load_state_dict(closed_form(case), strict=True)
    support, _ = closed_form_images(case["image_size"], case["tasks"] - 1)
    _, trace = method.adapt(support, trace=True)
    context = trace[-1].context
    assert context is not None
    assert_close(context.norm(), 0.0005736476659970345, "|c|")
    gamma = method.generator(context)
    assert_close(
        gamma.round(decimals=10),
        torch.tensor([1.2679012498, 0.3197154983, 0.1005942139, 0.1390126616], dtype=torch.float64),
        "gamma",
    )
