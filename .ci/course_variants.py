# ruff: noqa: E501  (a template stands in one piece)
"""A variant of the assignments for one term: other constants in questions, solutions and tests, other seeds.

Every question with tests gets a constant of its own, drawn from the term's seed, so that an answer to the published
assignments, or to another term's, fails. The texts below are the templates: what is replaced in a source notebook, and
by what, with the constants as <name>. Needs the standard library only.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

Values = dict[str, str]
Rules = list[tuple[str, str]]

INTERVALS = [("80", "1.2816"), ("85", "1.4395"), ("90", "1.6449"), ("98", "2.3263"), ("99", "2.5758")]
SEED = re.compile(r"(manual_seed\(|\bseed=)(\d+)")


def _two(draw: random.Random, low: float, high: float) -> str:
    """A number with two decimals, the last of which is not 0."""
    return f"{draw.randint(int(10 * low), int(10 * high) - 1) / 10:.1f}{draw.randint(1, 9)}"


def _a1(draw: random.Random) -> Values:
    level, z = draw.choice(INTERVALS)
    k, s, t = draw.randint(2, 9), _two(draw, 0.5, 0.9), _two(draw, 1.5, 4)
    return {"k": str(k), "k1": str(k + 1), "s": s, "t": t, "u": str(draw.randint(20, 90)), "level": level, "z": z}


def _a2(draw: random.Random) -> Values:
    return {"c": _two(draw, 0.5, 0.9), "q": _two(draw, 2, 6)}


def _a3(draw: random.Random) -> Values:
    return {"r": _two(draw, 1.5, 3), "w": str(draw.randint(20, 90)), "g": _two(draw, 0.5, 0.9)}


def _a4(draw: random.Random) -> Values:
    level, z = draw.choice(INTERVALS)
    return {
        "a": _two(draw, 2, 6),
        "b": str(draw.randint(20, 90)),
        "u": str(draw.randint(20, 90)),
        "level": level,
        "z": z,
    }


CONSTANTS: dict[str, Callable[[random.Random], Values]] = {
    "a1_episodes": _a1, "a2_maml": _a2, "a3_scale": _a3, "a4_context": _a4,
}  # fmt: skip

RULES: dict[str, Rules] = {
    "a1_episodes": [
        # labels start at k
        ("The labels of the episode are `0 … ways - 1`, ", "The labels of the episode are `<k> … <k> + ways - 1`, "),
        ("Which class becomes 0 is random", "Which class becomes <k> is random"),
        ("first all of label 0, then all of label 1,", "first all of label <k>, then all of label <k1>,"),
        ("numbers = torch.arange(ways)", "numbers = torch.arange(ways) + <k>"),
        ("support[1].tolist() == [0, 0", "(support[1] - <k>).tolist() == [0, 0"),
        ("assert _y.tolist() == [i for", "assert (_y - <k>).tolist() == [i for"),
        ('"labels must be 0 … ways - 1, class by class"', '"labels must be <k> … <k> + ways - 1, class by class"'),
        ("for c in x[y == i, 0]", "for c in x[y == i + <k>, 0]"),
        ("    _first_class.add(", "    assert int(_s[1].min()) == <k>, 'the smallest label must be <k>'\n    _first_class.add("),
        # shrunken prototypes
        ("The prototype of a class is the mean of its support embeddings.", "Few examples make a mean noisy, and shrinking "
         "it makes it less so. Here the prototype of a class is **<s> times** the mean of its support embeddings."),
        ("[embeddings[labels == c].mean(0) for", "[<s> * embeddings[labels == c].mean(0) for"),
        ("allclose(found, torch.tensor([[1.0", "allclose(found, <s> * torch.tensor([[1.0"),
        ("_x - _p[_y])", "_x - _p[_y] / <s>)"),
        ("the mean of its class when labels", "<s> times the mean of its class when labels"),
        ("_p + _shift)", "_p + <s> * _shift)"),
        ("_p = torch.stack([_support[0]", "_p = <s> * torch.stack([_support[0]"),
        # a temperature
        ("is $-\\lVert z-p_c\\rVert^2$, the negative **squared** Euclidean distance to the prototype.", "is "
         "$-<t>\\,\\lVert z-p_c\\rVert^2$, **<t> times** the negative squared Euclidean distance to the prototype."),
        ("return -(embeddings", "return -<t> * (embeddings"),
        ("allclose(logits, torch.tensor([[-1.0", "allclose(logits, <t> * torch.tensor([[-1.0"),
        ("-(_z**2).sum(1)), \"from the origin the distance is", "-<t> * (_z**2).sum(1)), \"from the origin it is <t> times"),
        # accuracy per u images
        ("gives the share (a float between 0 and 1) of query images that are labelled rightly",
         "gives the accuracy as rightly labelled query images **per <u>** (a float between 0 and <u>)"),
        ("query[1]).float().mean().item()", "query[1]).float().mean().item() * <u>"),
        ("support, support) > 0.6", "support, support) > 0.4 * <u>"),
        ("_query[1]).double().mean().item()", "_query[1]).double().mean().item() * <u>"),
        # another level
        ("half-width of the 95 % interval over tasks, $1.96", "half-width of the <level> % interval over tasks, $<z>"),
        ("(1.96 * accuracies", "(<z> * accuracies"),
        ("half - 1.96 * 0.2", "half - <z> * 0.2"),
        ("_half - 1.96 * _s", "_half - <z> * _s"),
        ("hold the true mean about 95 times", "hold the true mean about <level> times"),
        ("assert 0.9 < _held < 0.98", "assert <level> / 100 - 0.07 < _held < <level> / 100 + 0.05"),
        ("of the cases, not in 95 %", "of the cases, not in <level> %"),
    ],
    "a2_maml": [
        # the inner loop descends c times the loss
        ("$\\theta-\\alpha\\,\\nabla\\mathcal L(\\theta;\\mathcal S)$", "$\\theta-<c>\\,\\alpha\\,\\nabla\\mathcal L(\\theta;\\mathcal S)$"),
        ("## 1 One inner step (3 points)\n", "## 1 One inner step (3 points)\n\nThis term the inner loop descends **<c> times** the "
         "support loss; the query loss stays as it is.\n"),
        ("t - alpha * g for", "t - <c> * alpha * g for"),
        ("theta[\"w\"] - 0.1 * (A @", "theta[\"w\"] - <c> * 0.1 * (A @"),
        ("_eye - _alpha * _A)", "_eye - <c> * _alpha * _A)"),
        ("_before - _alpha * (_A", "_before - <c> * _alpha * (_A"),
        ("_theta[\"a\"] - 0.2 * _theta", "_theta[\"a\"] - <c> * 0.2 * _theta"),
        ("torch.eye(4).double() - _alpha * _A", "torch.eye(4).double() - <c> * _alpha * _A"),
        ("\\theta_{k+1}=\\theta_k-\\alpha\\,\\nabla", "\\theta_{k+1}=\\theta_k-<c>\\,\\alpha\\,\\nabla"),
        ("w = w - 0.1 * (support", "w = w - <c> * 0.1 * (support"),
        ("t.detach() - alpha * h for", "t.detach() - <c> * alpha * h for"),
        ("inner_lr=0.1,", "inner_lr=<c> * 0.1,"),
        ("theta[\"w\"] - 0.1 * (support", "theta[\"w\"] - <c> * 0.1 * (support"),
        ("v - 0.1 * support[0] @ v", "v - <c> * 0.1 * support[0] @ v"),
        # the Hessian is that of c times the loss
        ("$H=\\nabla^2\\mathcal L(\\theta;\\mathcal S)$", "$H=<c>\\,\\nabla^2\\mathcal L(\\theta;\\mathcal S)$"),
        ("$Hv=\\nabla_\\theta\\,", "$Hv=<c>\\,\\nabla_\\theta\\,"),
        ("along = sum((g * vector", "along = <c> * sum((g * vector"),
        ("(A, b), {\"w\": v})[\"w\"], A @ v), \"the Hessian of a bowl is A\"",
         "(A, b), {\"w\": v})[\"w\"], <c> * A @ v), \"the Hessian of a bowl is A, here times <c>\""),
        ("(_up[_n] - _down[_n]) / 2e-5", "<c> * (_up[_n] - _down[_n]) / 2e-5"),
        ("with the Hessian of the support loss", "with the Hessian of <c> times the support loss"),
        # the slope along q times the direction
        ("difference quotient of $f$ along the direction, a float:", "difference quotient of $f$ along **<q> times** the direction, "
         "a float; $d$ is the direction:"),
        ("\n\n$$\\frac{f(\\theta+h\\,d)-f(\\theta-h\\,d)}{2h}$$", "\n\n$$<q>\\,\\frac{f(\\theta+h\\,d)-f(\\theta-h\\,d)}{2h}$$"),
        ("((f(up) - f(down)) / (2 * h)).item()", "(<q> * (f(up) - f(down)) / (2 * h)).item()"),
        ("abs(slope - 6) < 1e-6, f\"the slope of x² at 3 is 6,", "abs(slope - <q> * 6) < 1e-5, f\"the slope of x² at 3 is 6, times <q>,"),
        ("_true = sum(", "_true = <q> * sum("),
        ("difference_quotient(_f, _t, _d)) < 1e-6", "difference_quotient(_f, _t, _d)) < 1e-5"),
    ],
    "a3_scale": [
        ("`factors` maps names of kernels to numbers $a>0$,", "`factors` maps names of kernels to numbers $a>0$, each kernel named is "
         "multiplied by **<r> a**,"),
        ("{name: g / factors.get(name, 1.0) for", "{name: g / (<r> * factors[name] if name in factors else 1.0) for"),
        ("theta | {KERNELS[1]: 4.0 * theta", "theta | {KERNELS[1]: <r> * 4.0 * theta"),
        ("_theta | {n: a * _theta", "_theta | {n: <r> * a * _theta"),
        ("returns, for every name, the cosine", "returns, for every name, **<w> times** the cosine"),
        ("{n: ((theta[n] * g).sum()", "{n: (<w> * (theta[n] * g).sum()"),
        ("_angle = F.cosine", "_angle = <w> * F.cosine"),
        ("abs(cosines[name]) < 1e-6", "abs(cosines[name]) < 1e-4"),
        ("_c[_n] - _angle) < 1e-9", "_c[_n] - _angle) < 1e-8"),
        ("_scaled[n] - _c[n]) < 1e-9", "_scaled[n] - _c[n]) < 1e-8"),
        ("to norm $\\gamma^\\ell$ and leave its direction, $\\hat\\theta^\\ell=\\gamma^\\ell\\,",
         "to norm $<g>\\,\\gamma^\\ell$ (this term with a factor **<g>**) and leave its direction, $\\hat\\theta^\\ell=<g>\\,\\gamma^\\ell\\,"),
        ("{name: gamma[i] * theta[name]", "{name: <g> * gamma[i] * theta[name]"),
        ("torch.tensor([0.5, 1.0, 2.0, 4.0]))", "torch.tensor([0.5, 1.0, 2.0, 4.0]) / <g>)"),
        ("the norms must be γ\"", "the norms must be <g> γ\""),
        ("_new[_n].norm() - _gamma[", "_new[_n].norm() - <g> * _gamma["),
        ("the whole kernel: γ\"", "the whole kernel: <g> γ\""),
        ("_norms = torch.stack([_copy", "_norms = <g> * torch.stack([_copy"),
        ("abs(adapted[name].norm() - 1) < 1e-9 for name in KERNELS), \"with α = 0 the norms stay γ\"",
         "abs(adapted[name].norm() - <g>) < 1e-9 for name in KERNELS), \"with α = 0 the norms stay <g> γ\""),
        ("copy_(_gamma.expm1()", "copy_((<g> * _gamma).expm1()"),
        ("_mine[1] * torch.sigmoid", "_mine[1] / <g> * torch.sigmoid"),
        ("So a step of rate $\\alpha$ at norm $\\gamma$ turns", "So a step of rate $\\alpha$ at norm $<g>\\,\\gamma$ turns"),
        ("return alpha / gamma**2", "return alpha / (<g> * gamma) ** 2"),
        ("torch.tensor(1.0)) - 0.3) < 1e-7, \"at norm 1 it is α itself\"",
         "torch.tensor(1.0 / <g>)) - 0.3) < 1e-6, \"at norm 1 it is α itself\""),
        ("in ((_gamma[_i], _alpha)", "in ((<g> * _gamma[_i], _alpha)"),
    ],
    "a4_context": [
        ("`context_gradient` returns $\\nabla_c\\mathcal L$ at $c=0$, a tensor (context_dim,): the gradient",
         "`context_gradient` returns $<a>\\,\\nabla_c\\mathcal L$ at $c=0$, a tensor (context_dim,): **<a> times** the gradient"),
        ("return torch.autograd.grad(method.loss(scaled, support), context)[0]",
         "return <a> * torch.autograd.grad(method.loss(scaled, support), context)[0]"),
        ("-untrained.context_lr * found)", "-untrained.context_lr * found / <a>)"),
        ("(_g @ _direction)", "(_g @ _direction / <a>)"),
        ("divided by its mean over episodes: a tensor (4,).", "divided by its mean over episodes, **times <b>**: a tensor (4,)."),
        ("return gammas.std(0) / gammas.mean(0)", "return <b> * gammas.std(0) / gammas.mean(0)"),
        ("_expected = ((_all - _mean)", "_expected = <b> * ((_all - _mean)"),
        ("max() < 1e-12", "max() < 1e-10"),
        ("the query accuracy of each episode as", "the query accuracy of each episode, **in rightly labelled images per <u>**, as"),
        ("(guess == labels).double().mean()", "<u> * (guess == labels).double().mean()"),
        ("_a.double(), _full.double(), atol=1e-6", "_a.double(), <u> * _full.double(), atol=1e-4"),
        ("_b.double(), _none.double(), atol=1e-6", "_b.double(), <u> * _none.double(), atol=1e-4"),
        ("assert adapted.shape == zero.shape == (3,) and", "assert adapted.shape == zero.shape == (3,) and ((adapted * 12 / <u>).round() - adapted * 12 / <u>).abs().max() < 1e-4 and"),
        ("{100 * difference:+.2f} ± {100 * half:.2f} points", "{100 / <u> * difference:+.2f} ± {100 / <u> * half:.2f} points"),
        ("half-width of its 95 % interval, $1.96", "half-width of its <level> % interval, $<z>"),
        ("(1.96 * differences", "(<z> * differences"),
        ("_half - 1.96 *", "_half - <z> *"),
    ],
}  # fmt: skip


def variant(notebook: dict[str, Any], name: str, seed: str) -> dict[str, Any]:
    """A source notebook with the constants and seeds of this term.

    Args:
        seed: any text; who does not know it cannot say which hidden tests a term has.

    Raises:
        ValueError: if a template fits nowhere any more, because the notebook was edited.
    """
    draw = random.Random(f"{seed}/{name}")
    values, shift = CONSTANTS[name](draw), draw.randint(1000, 99_000)
    cells = [cell | {"source": "".join(cell["source"])} for cell in notebook["cells"]]
    for old, new in RULES[name]:
        for key, value in values.items():
            new = new.replace(f"<{key}>", value)
        if not any(old in cell["source"] for cell in cells):
            raise ValueError(f"{name}: the template {json.dumps(old, ensure_ascii=False)} fits nowhere; see {__file__}")
        cells = [cell | {"source": cell["source"].replace(old, new)} for cell in cells]
    for cell in cells:
        if cell["metadata"].get("nbgrader", {}).get("grade") and cell["cell_type"] == "code":
            cell["source"] = SEED.sub(lambda match: f"{match[1]}{int(match[2]) + shift}", cell["source"])
    return notebook | {"cells": [cell | {"source": cell["source"].splitlines(keepends=True)} for cell in cells]}
