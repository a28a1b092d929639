"""Tables in Markdown: accuracies with both intervals, and paired differences with a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor

from ..recipes.results import Arm, difference, mean_and_intervals

Row = Sequence[object]


def table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def half(width: float) -> str:
    return "one seed" if math.isnan(width) else f"± {width:.1f}"


def accuracy_table(arms: Sequence[Arm]) -> str:
    rows: list[Row] = []
    for a in (a for a in arms if a.results):
        average, over_tasks, over_seeds = mean_and_intervals(a.accuracies)
        each = ", ".join(f"{value:.1f}" for value in a.accuracies.mean(1).tolist())
        rows.append([a.title, each, f"{average:.1f}", f"± {over_tasks:.1f}", half(over_seeds)])
    made = table(["runs", "accuracy by seed, %", "mean", "over tasks", "over seeds"], rows) if rows else ""
    return "\n\n".join(part for part in (made, not_run([a.title for a in arms if not a.results])) if part)


def not_run(names: Sequence[str]) -> str:
    return f"Not run: {'; '.join(names)}." if names else ""


def difference_table(pairs: Sequence[tuple[Arm, Arm]]) -> str:
    rows: list[Row] = []
    for one, other in pairs:
        values, seeds = difference(one, other)
        if not seeds:
            continue
        average, over_tasks, over_seeds = mean_and_intervals(values)
        rows.append(
            [
                f"{one.title} − {other.title}",
                len(seeds),
                signed(average, 1),
                f"± {over_tasks:.1f}",
                half(over_seeds),
                verdict(values),
            ]
        )
    if not rows:
        return "No two of these can be compared yet."
    return table(["difference, same tasks and seeds", "seeds", "points", "over tasks", "over seeds", "verdict"], rows)


def verdict(values: Tensor) -> str:
    """What (seeds, tasks) differences decide: the wider interval has to leave zero out."""
    average, over_tasks, over_seeds = mean_and_intervals(values)
    if math.isnan(over_seeds):
        return "one seed decides nothing"
    if abs(average) > max(over_tasks, over_seeds):
        return "ahead" if average > 0 else "behind"
    widest = max(over_tasks, over_seeds)
    return f"undecided; from {signed(average - widest, 1)} to {signed(average + widest, 1)}"
