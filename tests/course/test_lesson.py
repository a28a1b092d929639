"""Predictions are compared with answers, and blanks that are filled wrongly get the hint for their mistake."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from cxgrad_lite import Conv4, CxGrad
from cxgrad_lite.course import comparison
from cxgrad_lite.course.lesson import (
    ____,
    blanks,
    calibration,
    chain,
    check,
    gamma_dials,
    invariance,
    nearest,
    predict,
    predictions,
    scaling,
    two_parabolas,
)
from cxgrad_lite.course.lesson import versions as course
from cxgrad_lite.plots import Picture
from data_utils import ImageClasses, TaskSampler

Shown = list[dict[str, Any]]
LATER = chain.CHAIN | invariance.INVARIANCE | scaling.SCALING | comparison.BLANKS  # the blanks of 03, 04, 05 and 08


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What is displayed; no prediction is left from another test."""
    seen: Shown = []
    predictions.ASKED.clear()
    monkeypatch.setattr(blanks, "display", lambda data, **_: seen.append(data))
    # A prediction displays itself, and then its parts.
    monkeypatch.setattr(predictions, "display", lambda data, **_: seen.append(data) if isinstance(data, dict) else None)
    return seen


def sentence(asked: predictions.Prediction) -> str:
    return str(asked.said.value)


# --- predictions


def test_a_pick_gets_the_sentence_for_this_mistake(shown: Shown) -> None:
    asked = predict("Where?", pick=["at A", "at B", "between"])
    asked.reveal("at A", why={"at B": "B is steep.", "between": "Not half-way."})
    assert "at A" in shown[-1]["text/markdown"] and "steep" not in shown[-1]["text/markdown"]
    asked.commit.click()
    assert asked.guess is None and "not complete" in asked.message.value
    asked.form.widget.value, asked.sureness.value = "at B", "certain"
    asked.commit.click()
    assert asked.right is False and "B is steep." in sentence(asked) and "half-way" not in sentence(asked)
    assert asked.form.widget.disabled and asked.commit.disabled


def test_a_guess_before_the_answer_waits_for_it() -> None:
    asked = predict("Where?", pick=["left", "right"])
    asked.form.widget.value = "left"
    asked.commit.click()
    assert asked.right is None and not asked.result.children
    asked.reveal("left", why={"left": "As it should be."})
    assert asked.right is True and "As it should be." in sentence(asked)
    assert asked.cover.layout.display == "none"


def test_an_order_is_wrong_where_it_is_most_wrong() -> None:
    asked = predict("Which is larger?", order=["a", "b", "c"])
    for item in ("b", "a", "c"):
        asked.form.buttons[item].click()
    asked.commit.click()
    asked.reveal({"a": 1.0, "b": 2.0, "c": 30.0}, why={"a": "a is small.", "b": "b is not that large."})
    assert asked.right is False
    assert "You put a before c, but c has 30 and a 1" in sentence(asked) and "a is small." in sentence(asked)


def test_an_order_can_be_begun_again() -> None:
    asked = predict("Which is larger?", order=["a", "b"])
    asked.form.buttons["a"].click()
    assert asked.form.guess() is None and asked.form.buttons["a"].disabled
    asked.form.clear()
    for item in ("b", "a"):
        asked.form.buttons[item].click()
    asked.commit.click()
    asked.reveal({"a": 1.0, "b": 2.0})
    assert asked.right is True


@pytest.mark.parametrize(("first", "right", "said"), [(20.0, False, "It had practised."), (75.0, True, "All within")])
def test_bars_name_the_worst_of_them(first: float, right: bool, said: str, shown: Shown) -> None:
    asked = predict("How many?", bars=["trained", "pixels"])
    asked.form.sliders[0].value, asked.form.sliders[1].value = first, 50.0
    asked.commit.click()
    asked.reveal({"pixels": 52.0, "trained": 80.0}, errors=[1.0, 2.0], why={"trained low": "It had practised."})
    assert asked.right is right and said in sentence(asked) and "trained" in sentence(asked)
    assert shown[-1]["image/png"] and "trained 80 %" in shown[-1]["text/plain"]
    assert len(asked.result.children) == 2


def test_a_picture_that_shows_more_does_not_hide_the_guess(shown: Shown) -> None:
    more = Picture(Figure(), "more than a bar")
    asked = predict("How many?", bars=["trained"])
    asked.reveal([80.0], picture=more)
    assert shown[-1]["text/plain"] == "more than a bar"
    asked.form.sliders[0].value = 20.0
    asked.commit.click()
    own, other, _ = asked.result.children
    assert own.value != other.value == more.png()


def test_a_curve_that_was_not_touched_is_no_guess() -> None:
    asked = predict("How does it grow?", curve=range(3), x_label="steps")
    asked.commit.click()
    assert asked.guess is None
    for slider, value in zip(asked.form.sliders, (20.0, 90.0, 90.0)):
        slider.value = value
    asked.commit.click()
    asked.reveal([20.0, 30.0, 90.0], why={"high": "The first step does little."})
    assert asked.right is False and "The first step does little." in sentence(asked) and "1, with 30" in sentence(asked)


def test_an_answer_that_was_seen_first_does_not_count() -> None:
    asked = predict("Where?", pick=["left", "right"])
    asked.reveal("left")
    asked.on_peek()
    asked.form.widget.value = "left"
    asked.commit.click()
    assert asked.right is None and "none of them" in str(calibration().data)


def test_calibration_compares_sureness_with_being_right() -> None:
    for number, (sure, guess) in enumerate((("certain", "left"), ("certain", "right"), ("guessing", "right"))):
        asked = predict(f"Question {number}?", pick=["left", "right"])
        asked.form.widget.value, asked.sureness.value = guess, sure
        asked.commit.click()
        asked.reveal("right")
    predict("Left open?", pick=["left", "right"])
    text = str(calibration().data)
    assert "| certain | 2 | 1 |" in text and "| guessing | 1 | 1 |" in text
    assert "*Question 0?*" in text and "before: 1" in text


def test_what_is_stored_can_be_read_without_a_kernel(shown: Shown) -> None:
    asked = predict("How many?", bars=["one", "two"])
    asked._ipython_display_()
    asked.reveal([10.0, 20.0])
    question, answer = shown
    assert "How many?" in question["text/markdown"] and "one, two" in question["text/markdown"]
    assert predictions.WIDGET_VIEW in question and predictions.WIDGET_VIEW in answer and answer["image/png"]


def test_the_nearest_choice_is_the_answer() -> None:
    assert nearest({"about 20 %": 20, "about 50 %": 50}, 31.0) == "about 20 %"


def test_questions_and_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        predict("What?", pick=["a"], order=["a", "b"])
    with pytest.raises(ValueError, match="2 numbers for 3"):
        predict("What?", bars=["a", "b", "c"]).reveal([1.0, 2.0])
    asked = predict("Which?", pick=["a", "b"])
    asked.form.widget.value = "a"
    asked.commit.click()
    with pytest.raises(ValueError, match="none of the choices"):
        asked.reveal("c")


# --- the two parabolas


def test_the_parabolas_show_the_steps_that_their_sliders_ask_for() -> None:
    panel = two_parabolas(start=0.8, alpha=0.2, backend="png")
    before, after = panel.before, panel.after
    assert before == pytest.approx(0.5 * 0.8**2 + 2 * 0.2**2)
    assert after == pytest.approx(0.5 * 0.64**2 + 2 * 0.04**2)
    panel.start.value = 0.2
    assert panel.before > before and panel.after < after, "worse where it starts, better where it leads"
    assert "after one step each at 0.20" in panel.alt()
    steps = panel.chart.plotted("tasks")
    assert any(list(x) == pytest.approx([0.2, 0.16]) for x, _ in steps), "task A's step"
    panel.alpha.value = 0.25
    assert "after one step each at 0.00" in panel.alt(), "task B is solved from anywhere"
    panel.close()


# --- blanks: each of these is what a reader may write


def inner_loop(new: Callable[[Tensor, Tensor, float], Tensor], own: bool = False, graph: bool = True) -> Any:
    def inner_loop(net: Any, support: Any, alpha: float, steps: int, second_order: bool = True) -> Any:
        theta = dict(net.named_parameters())
        for _ in range(steps):
            weights = dict(net.named_parameters()) if own else theta
            loss = F.cross_entropy(functional_call(net, weights, (support[0],)), support[1])
            grads = torch.autograd.grad(loss, list(theta.values()), create_graph=graph and second_order)
            theta = {name: new(w, g, alpha) for (name, w), g in zip(theta.items(), grads)}
        return theta

    return inner_loop


def meta_step(scale: float = 0.5, clear: bool = True, early: bool = False) -> Any:
    def meta_step(net: Any, optimiser: Any, episodes: Any, alpha: float = 0.1, steps: int = 5) -> Any:
        if clear:
            optimiser.zero_grad()
        for support, query in episodes:
            loss, _ = course.query_loss(net, support, query, alpha, steps)
            (loss * scale).backward()
            if early:
                optimiser.step()
        if not early:
            optimiser.step()

    return meta_step


def query_loss(own: bool = False, support_set: bool = False) -> Any:
    def query_loss(net: Any, support: Any, query: Any, alpha: float, steps: int, second_order: bool = True) -> Any:
        theta = course.inner_loop(net, support, alpha, steps, second_order)
        images, labels = support if support_set else query
        logits = net(images) if own else functional_call(net, theta, (images,))
        return F.cross_entropy(logits, labels), logits

    return query_loss


def draw_task(start: bool = True, numbering: str = "task", twice: bool = False) -> Any:
    def draw_task(data: Any, ways: int, shots: int, queries: int, generator: torch.Generator) -> Any:
        classes = torch.randperm(len(data.names), generator=generator)[:ways]
        classes = classes[:1].expand(ways) if twice else classes
        support, query = [], []
        for c in classes:
            images = data.of_class(data.names[c]).float() / 255
            order = torch.randperm(len(images), generator=generator)
            support.append(images[order[:shots]])
            query.append(images[order[shots : shots + queries] if start else order[:queries]])
        labels = classes if numbering == "dataset" else torch.arange(ways)
        repeat = torch.Tensor.repeat if numbering == "turn" else torch.Tensor.repeat_interleave
        return (torch.cat(support), repeat(labels, shots)), (torch.cat(query), repeat(labels, queries))

    return draw_task


def conv4(padding: int = 1, features: Callable[[int, int], int] = lambda width, size: width * (size // 16) ** 2) -> Any:
    def block(inputs: int, filters: int) -> nn.Module:
        conv = nn.Conv2d(inputs, filters, 3, padding=padding, bias=False)
        norm = nn.BatchNorm2d(filters, track_running_stats=False)
        return nn.Sequential(OrderedDict(conv=conv, norm=norm, pool=nn.MaxPool2d(2), activation=nn.LeakyReLU(0.01)))

    class Conv4(nn.Module):
        def __init__(self, channels: int, size: int, ways: int, width: int) -> None:
            super().__init__()
            self.blocks = nn.Sequential(block(channels, width), *[block(width, width) for _ in range(3)])
            self.head = nn.Linear(features(width, size), ways)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.blocks(images).flatten(1))

    return Conv4


@pytest.mark.parametrize(
    ("reader", "hint"),
    [
        (inner_loop(lambda w, g, a: w + a * g), "climb"),
        (inner_loop(lambda w, g, a: w - g), "α is missing"),
        (inner_loop(lambda w, g, a: (w - a * g).detach()), "lost its graph"),
        (inner_loop(lambda w, g, a: w - a * g, own=True), "not with its own weights"),
        (inner_loop(lambda w, g, a: w - a * g, graph=False), "first order"),
        (inner_loop(lambda w, g, a: w.sub_(a * g)), "in-place"),
        (inner_loop(lambda w, g, a: w - 2 * a * g), "is off by up to"),
        (query_loss(own=True), "before adaptation"),
        (query_loss(support_set=True), "support loss"),
        (meta_step(scale=1.0), "divide by len(episodes)"),
        (meta_step(scale=-0.5), "sign"),
        (meta_step(clear=False), "zero_grad"),
        (meta_step(early=True), "after the last"),
        (meta_step(scale=0.0), "is off by up to"),
        (draw_task(start=False), "share images"),
        (draw_task(numbering="dataset"), "0, 1 and 2"),
        (draw_task(numbering="turn"), "do not match"),
        (draw_task(twice=True), "1 different classes"),
        (conv4(padding=0), "padding 1"),
        (conv4(features=lambda width, size: width * size**2), "halve"),
        (conv4(features=lambda width, size: width), "halve"),
    ],
)
def test_a_typical_mistake_gets_its_hint(reader: Any, hint: str, shown: Shown) -> None:
    assert check(reader) is getattr(course, reader.__name__), "a wrong version is not used"
    assert "not yet" in shown[-1]["text/plain"] and hint in shown[-1]["text/plain"]


@pytest.mark.parametrize(
    "reader", [inner_loop(lambda w, g, a: w - a * g), query_loss(), meta_step(), draw_task(), conv4()]
)
def test_the_readers_own_version_is_used_when_it_is_right(reader: Any, shown: Shown) -> None:
    assert check(reader) is reader
    assert "runs yours" in shown[-1]["text/plain"]


def test_an_open_blank_is_no_mistake(shown: Shown) -> None:
    def block() -> Any:
        return ____

    def meta_step(*_: Any) -> Any:
        return [____ for _ in range(2)]

    assert check(meta_step) is course.meta_step
    assert "open" in shown[-1]["text/plain"]
    globals()["block"] = block  # a notebook's function that another one calls
    try:
        Conv4 = type("Conv4", (), {"__init__": eval("lambda self: block()", globals())})
        assert check(Conv4) is course.Conv4
    finally:
        del globals()["block"]


def test_an_error_is_told_with_its_line(shown: Shown) -> None:
    def inner_loop(net: Any, support: Any, alpha: float, steps: int) -> Any:
        return {}[alpha]

    check(inner_loop)
    assert f"KeyError in line {inner_loop.__code__.co_firstlineno + 1} of the cell" in shown[-1]["text/plain"]


def test_only_exercises_can_be_checked() -> None:
    with pytest.raises(ValueError, match="nothing to check under the name 'sum'"):
        check(sum)


# --- the dials of notebook 05


def test_the_dials_set_the_norms_and_the_relative_step_follows_their_square() -> None:
    torch.manual_seed(0)
    images = torch.arange(6 * 8).remainder(7).mul(30).byte().view(48, 1, 1, 1).expand(48, 1, 16, 16).clone()
    images[:, :, ::2] //= 2
    data = ImageClasses(images, torch.arange(6).repeat_interleave(8), tuple("abcdef"))
    method = CxGrad(Conv4(1, 16, 3, width=4), inner_lr=0.01, inner_steps=2)
    panel = gamma_dials(method, TaskSampler(data, 3, 2, 3), episodes=2, backend="png")
    grad, relative = panel.grad["block 4"], panel.relative["block 4"]
    panel.gamma[3].value = panel.gamma[3].value / 2
    assert panel.grad["block 4"] == pytest.approx(2 * grad, rel=0.02)
    assert panel.relative["block 4"] == pytest.approx(4 * relative, rel=0.04)
    assert panel.relative["block 1"] == pytest.approx(panel.constant[1]["block 1"], rel=0.02)
    assert type(method) is CxGrad and not method.frozen_context, "a copy is changed"
    other = gamma_dials(method, TaskSampler(data, 3, 2, 3), episodes=2, backend="png")
    exec(panel.code(), {"panel": other})
    assert other.accuracy == panel.accuracy and "0.35" in other.alt()
    panel.close()
    other.close()


@pytest.mark.parametrize(("name", "hint"), [(n, h) for n, e in LATER.items() for h in e.mistakes])
def test_a_mistake_of_notebooks_03_to_08_gets_its_hint(name: str, hint: str) -> None:
    exercise = LATER[name]
    assert blanks.diagnose(exercise.mistakes[hint], exercise) == hint
    assert blanks.diagnose(exercise.solution, exercise) == ""


@pytest.mark.parametrize(
    ("exercise", "reader", "hint"),
    [
        ("through_head", lambda delta, h, weight: (delta @ h, delta @ weight), "sums over the images"),
        ("through_head", lambda delta, h, weight: (delta.T @ h, delta @ weight.T), "sums over the classes"),
        ("through_head", lambda delta, h, weight: (delta.T @ h, delta * weight), "matrix products"),
        ("through_norm", lambda delta, z_hat, gain, sigma: z_hat * (delta * z_hat).mean((0, 2, 3)), "keepdim=True"),
        ("through_norm", lambda delta, z_hat, gain, sigma: gain * delta, "is off by up to"),
    ],
)
def test_shapes_that_do_not_fit_in_notebook_03_are_explained(exercise: str, reader: Any, hint: str) -> None:
    assert hint in blanks.diagnose(reader, chain.CHAIN[exercise])


def test_batch_norm_backwards_is_what_autograd_says() -> None:
    z = torch.randn(4, 3, 5, 6).double().requires_grad_()
    mean, sigma = z.mean(chain.OVER, keepdim=True), z.var(chain.OVER, correction=0, keepdim=True).sqrt()
    delta, gain = torch.randn(4, 3, 5, 6).double(), torch.tensor([1.0, 3.0, 2.0]).double().view(1, 3, 1, 1)
    z_hat = (z - mean) / sigma
    (truth,) = torch.autograd.grad((gain * z_hat * delta).sum(), z)
    assert torch.allclose(chain.through_norm(delta, z_hat, gain, sigma), truth)


def test_a_loop_that_leaves_the_context_out_is_explained() -> None:
    def without(net: Any, generator: Any, support: Any, *rest: Any) -> Any:
        c = torch.zeros(100).double().requires_grad_()
        torch.autograd.grad(F.cross_entropy(net(support[0]), support[1]), c)

    assert "makes γ from the context" in blanks.diagnose(without, scaling.SCALING["cxgrad_inner_loop"])
