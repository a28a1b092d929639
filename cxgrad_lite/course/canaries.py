"""Cells that must fail. Where one does not, the test before it proves nothing."""

from __future__ import annotations

import ast
import random
import secrets

# What a test relies on. It runs after each test, among the names that the student's code has left behind.
CHECKS = """
def {mark}():
    import sys

    torch = sys.modules.get("torch")
    plain = (bool, int, float, complex, str, *([torch.Tensor, torch.nn.Parameter] if torch else []))

    def forged(value, depth=3):
        kind = type(value)
        if kind.__flags__ & 512 and kind is not getattr(sys.modules.get(kind.__module__), kind.__qualname__, None):
            return True  # a class that is not where it says it comes from
        if isinstance(value, (list, tuple, dict)) and depth:
            return any([forged(v, depth - 1) for v in (value.values() if isinstance(value, dict) else value)])
        return kind.__module__ == "__main__" or isinstance(value, plain) and kind not in plain

    sane = abs(-{n}) == {n} and not all([1, 0]) and any([0, 1]) and len([1]) == 1 and sum([{n}, 1]) == {n} + 1
    if not sane or isinstance(1.0, str) or {{1}} == {{2}} or max(1, {n}) != {n} or set([1]) == set([{n}]):
        raise RuntimeError("a built-in function has another meaning")
    if torch:
        o, i = torch.zeros({n}), torch.ones({n})
        if torch.allclose(o, i) or torch.equal(o, i) or (o == i).any() or not (i - o).max() > {a}:
            raise RuntimeError("torch says that 0 and 1 are equal")
    for name in {names}:
        if forged(globals().get(name)):
            raise RuntimeError(name + " is of a class that was made for it")


{mark}()
assert {b} < {a}, "{mark}"
"""


def canary(test: str) -> tuple[str, str]:
    """A cell to run after a test cell, and the message of the AssertionError in which it must end."""
    draw, mark = random.SystemRandom(), f"_{secrets.token_hex(8)}"
    stored = {
        node.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    low, high = sorted(draw.uniform(0.1, 0.9) for _ in range(2))
    code = CHECKS.format(mark=mark, n=draw.randint(2, 9), a=f"{low:.3f}", b=f"{high + 0.001:.3f}", names=sorted(stored))
    return code, mark


def broken(outputs: list[dict[str, str]], mark: str) -> str:
    """Why the test before this canary proves nothing, "" if it does."""
    errors = [output for output in outputs if output["output_type"] == "error"]
    if not errors:
        return "an assertion that must fail passed"
    return (
        ""
        if (errors[0]["ename"], errors[0]["evalue"]) == ("AssertionError", mark)
        else f"the canary: {errors[0]['evalue']}"
    )
