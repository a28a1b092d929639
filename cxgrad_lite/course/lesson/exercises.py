"""What the checks of notebooks 01 to 05 and 08 look at, and the typical mistakes, each as code that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from data_utils import ImageClasses

from ...core.method import Batch, Theta
from ...core.nets import Conv4 as PackageConv4
from ...core.outer import Episode
from .. import comparison
from .blanks import Exercise
from .chain import CHAIN
from .invariance import INVARIANCE
from .scaling import SCALING
from .versions import Conv4, draw_task, inner_loop, meta_step, query_loss

Seen = Mapping[str, Tensor]

# --- 01: the sampler


def look_at_task(draw: Callable[..., Episode]) -> Seen:
    """A task of images that say which they are: image i of class c is filled with 10 c + i."""
    groups = [
        (f"class {c}", torch.arange(10 * c, 10 * c + 10, dtype=torch.uint8)[:, None, None, None]) for c in range(8)
    ]
    data = ImageClasses.from_groups(groups)
    support, query = draw(data, 3, 2, 4, torch.Generator().manual_seed(1))
    names = ("support images", "support labels", "query images", "query labels")
    return dict(zip(names, (255 * support[0], support[1], 255 * query[0], query[1])))


def look_at_draw(found: Seen, truth: Seen) -> str:
    support, query = (found[f"{part} images"].flatten().round().long() for part in ("support", "query"))
    classes = (support // 10).tolist()
    if len(set(classes)) != len(truth["support labels"].unique()):
        return f"The support images come from {len(set(classes))} different classes; the task should have 3."
    if set(support.tolist()) & set(query.tolist()):
        return "Support and query share images: what is to be recognised has been shown with its label."
    if len(query) != len(truth["query images"]):
        return f"The query set has {len(query)} images; 3 classes with 4 queries each make 12."
    for part in ("support", "query"):
        labels, right = found[f"{part} labels"], truth[f"{part} labels"]
        if labels.shape != right.shape:
            return f"There are {len(labels)} {part} labels for {len(right)} images."
        if int(labels.max()) > 2 or int(labels.min()) < 0:
            return f"A {part} label is {int(labels.max())}; in a 3-way task they are 0, 1 and 2, whatever the class."
        if not torch.equal(labels, right):
            return (
                f"The {part} images come class by class, but their labels run {labels.tolist()[:6]}: they do not match."
            )
    return ""


# --- 02: Conv4 and the two loops


def look_at_net(build: Callable[..., nn.Module]) -> Seen:
    """Logits of networks of two sizes with given weights, beside the shapes of their parameters."""
    seen: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        for channels, size in ((1, 28), (3, 32)):
            net = build(channels, size, 5, 4)
            torch.manual_seed(0)  # here, so that it does not matter how the network draws its weights
            given, images = PackageConv4(channels, size, 5, 4).state_dict(), torch.rand(6, channels, size, size)
            for name, tensor in net.state_dict().items():
                seen[f"the shape of {name}"] = torch.tensor(tensor.shape)
                if name in given and given[name].shape == tensor.shape:
                    tensor.copy_(given[name])
            seen[f"the logits of {size}-pixel images"] = net(images).detach()
    return seen


def small_task() -> tuple[nn.Module, list[Episode]]:
    """A small network in double precision, and two tasks for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        labels = torch.tensor([0, 1, 0, 1, 1, 0])
        batches = [(torch.randn(n, 3).double(), labels[:n]) for n in (4, 6, 4, 6)]
    return net, [(batches[0], batches[1]), (batches[2], batches[3])]


def gradients(loss: Tensor, net: nn.Module) -> Seen:
    grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    pairs = zip(net.named_parameters(), grads)
    return {f"the meta-gradient of {name}": torch.zeros_like(w) if g is None else g for (name, w), g in pairs}


def look_at_inner_loop(loop: Callable[..., Theta]) -> Seen:
    net, ((support, query), _) = small_task()
    theta = loop(net, support, 0.3, 3)
    loss = F.cross_entropy(functional_call(net, theta, (query[0],)), query[1])
    return {f"θ of {name}": w.detach() for name, w in theta.items()} | dict(gradients(loss, net))


def look_at_query_loss(lose: Callable[..., tuple[Tensor, Tensor]]) -> Seen:
    net, ((support, query), _) = small_task()
    loss, logits = lose(net, support, query, 0.3, 2)
    return {"the loss": loss.detach(), "the logits": logits.detach(), **gradients(loss, net)}


def look_at_meta_step(step: Callable[..., Any]) -> Seen:
    net, episodes = small_task()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    seen: dict[str, Tensor] = {}
    for call in ("one call", "a second call"):
        step(net, optimiser, episodes, 0.3, 2)
        seen |= {f"{name} after {call}": w.detach().clone() for name, w in net.named_parameters()}
    return seen


# --- typical mistakes, each as code that makes it


def loop_with(change: Callable[[Tensor, Tensor, float], Tensor], most: int = 99) -> Callable[..., Theta]:
    """An inner loop with another update and at most so many steps."""

    def loop(net: nn.Module, support: Batch, alpha: float, steps: int, second_order: bool = True) -> Theta:
        theta: Theta = dict(net.named_parameters())
        for _ in range(min(steps, most)):
            loss = F.cross_entropy(functional_call(net, theta, (support[0],)), support[1])
            grads = torch.autograd.grad(loss, list(theta.values()), create_graph=second_order)
            theta = {name: change(w, g, alpha) for (name, w), g in zip(theta.items(), grads)}
        return theta

    return loop


def first_order(net: nn.Module, support: Batch, alpha: float, steps: int, second_order: bool = True) -> Theta:
    return inner_loop(net, support, alpha, steps, second_order=False)


def loss_with(
    own_weights: bool, on_support: bool, net: nn.Module, support: Batch, query: Batch, alpha: float, steps: int
) -> tuple[Tensor, Tensor]:
    """A query loss of the network's own weights, or of the support set."""
    theta: Theta = dict(net.named_parameters()) if own_weights else inner_loop(net, support, alpha, steps)
    images, labels = support if on_support else query
    logits = functional_call(net, theta, (images,))
    return F.cross_entropy(logits, labels), logits


def step_with(
    scale: float, clear: bool, early: bool, net: nn.Module, optimiser: Any, episodes: Any, *args: Any
) -> None:
    """A meta-step with a scaled loss, without clearing gradients, or with an optimiser's step after each task."""
    if clear:
        optimiser.zero_grad()
    for support, query in episodes:
        (scale * query_loss(net, support, query, *args)[0]).backward()
        if early:
            optimiser.step()
    if not early:
        optimiser.step()


SHRINKS = "The maps shrink by two pixels in every block: a 3 × 3 kernel keeps their size only with padding 1."
OWN_WEIGHTS = "The loss does not depend on θ: run the network with theta, not with its own weights."
EXERCISES = {
    "draw_task": Exercise(draw_task, look_at_task, look=look_at_draw),
    "Conv4": Exercise(
        Conv4,
        look_at_net,
        raised={
            "too small": SHRINKS,
            "Kernel size can't be greater": SHRINKS,
            "mat1 and mat2": "The head gets a number of features that it was not built for. Four poolings halve the "
            "side, rounding down: 28 pixels become 1, 32 become 2. Each position of this map has `width` features.",
        },
    ),
    "inner_loop": Exercise(
        inner_loop,
        look_at_inner_loop,
        mistakes={
            "Your steps climb the loss: the update adds the gradient. Equation 2 subtracts it.": loop_with(
                lambda w, g, a: w + a * g
            ),
            "The inner rate α is missing: your steps move by the whole gradient.": loop_with(lambda w, g, a: w - g),
            "The rate multiplies the weights; it should multiply the gradient.": loop_with(lambda w, g, a: a * w - g),
            "θ comes out as it went in: no step has been taken.": loop_with(lambda w, g, a: w + 0),
            "The old θ is missing: this is the step alone.": loop_with(lambda w, g, a: -a * g),
            "Only one step counts; each step must start from the θ that the last one left.": loop_with(
                lambda w, g, a: w - a * g, most=1
            ),
            "θ is right, but the meta-gradient is that of first order: the inner gradients have lost their graph. "
            "Give create_graph=second_order, and no detach().": first_order,
        },
        raised={
            "to not have been used": OWN_WEIGHTS,
            "does not require grad": "θ has lost its graph after a step: do not detach it, and do not use .data.",
            "in-place operation": "An in-place update would overwrite the shared weights; build a new tensor.",
            "'NoneType'": OWN_WEIGHTS,
        },
    ),
    "query_loss": Exercise(
        query_loss,
        look_at_query_loss,
        mistakes={
            "This is the loss before adaptation: run the network with the adapted theta.": partial(
                loss_with, True, False
            ),
            "This is the support loss: the outer loop asks for the query images.": partial(loss_with, False, True),
        },
        raised={"batch_size": "Images and labels belong to different sets: take both from the query set."},
    ),
    "meta_step": Exercise(
        meta_step,
        look_at_meta_step,
        mistakes={
            "This is the sum over the tasks; equation 3 has the mean, so divide by len(episodes).": partial(
                step_with, 1.0, True, False
            ),
            "Your step climbs the query loss: the sign is wrong.": partial(step_with, -0.5, True, False),
            "The gradients of the call before are still there: call optimiser.zero_grad() first.": partial(
                step_with, 0.5, False, False
            ),
            "The optimiser moves after every task: take one step, after the last of them.": partial(
                step_with, 0.5, True, True
            ),
        },
        raised={
            "a second time": "A graph was used twice: call backward() once for each task.",
            "scalar outputs": "backward() needs a single number: the loss, not the logits.",
        },
    ),
    **CHAIN,
    **INVARIANCE,
    **SCALING,
    **comparison.BLANKS,
}
