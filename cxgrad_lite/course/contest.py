"""Ten small tasks for the reader and for four methods: who tells unfamiliar characters apart more often?"""

from __future__ import annotations

import torch
from torch import Tensor

from data_utils import ImageClasses, TaskSampler, load

from ..core.method import Method
from ..core.outer import Episode
from ..plots.figures import accuracy_bars, show_image
from ..plots.style import Picture, axes
from ..recipes.course import best_zoo_recipe
from ..recipes.recipe import pretrained
from ..training.evaluation import Evaluation
from ..zoo.metric import NearestPixels

SCRIPTS = ("Lao/", "Tifinagh/")  # of the meta-test scripts, those that the fewest readers know
TASKS, QUERIES, WAYS = 10, 5, 5
SETS = 5  # numbers that the course's site has
TRAINED = ("ProtoNet", "MAML", "CxGrad")


def contest_tasks(number: int) -> list[Episode]:
    """The ten 5-way 1-shot tasks with this number, of glyphs of meta-test scripts.

    Each has five query images, whose classes are drawn at random: nobody can count on one of each.
    """
    test, generator = load("glyphs", "test"), torch.Generator().manual_seed(number)
    unfamiliar = ImageClasses.from_groups((n, test.of_class(n)) for n in test.names if n.startswith(SCRIPTS))
    tasks: list[Episode] = []
    for support, (images, labels) in TaskSampler(unfamiliar, WAYS, 1, QUERIES, seed=number).episodes(TASKS):
        chosen = torch.randperm(len(labels), generator=generator)[:QUERIES]
        tasks.append((support, (images[chosen], labels[chosen])))
    return tasks


def contestants() -> dict[str, Method]:
    """Those whom the reader plays against; the networks are notebook 08's, trained on 5-way 1-shot tasks."""
    networks = {name: pretrained(best_zoo_recipe("glyphs", name, 1))[0] for name in TRAINED}
    return {"nearest pixels": NearestPixels(), **networks}


@torch.no_grad()
def read(method: Method, task: Episode) -> Tensor:
    """(queries,) answers to one query image at a time, as the reader sees them.

    Each is read in a batch with the five support images, because batch norm needs company.
    """
    (images, _), (asked, _) = support, _ = task
    theta = method.adapt(support)
    return torch.stack([method.logits(theta, torch.cat([images, query[None]]))[-1].argmax() for query in asked])


def beat_the_machine(number: int = 1, answers: str = "") -> Picture:
    """The game of the course's site, as far as somebody has played it.

    Args:
        number: which ten tasks.
        answers: the reader's, 1 to 5 for each query image in turn; hyphens are skipped.

    Returns:
        The next query image with the five characters to choose from, or, after the last one, everybody's accuracy.

    Raises:
        ValueError: if an answer is not one of 1 to 5, or there are more than 50.
    """
    given = [int(answer) - 1 if answer in "12345" else None for answer in answers.replace("-", "")]
    if None in given or len(given) > TASKS * QUERIES:
        raise ValueError(f"answers are up to {TASKS * QUERIES} digits from 1 to {WAYS}, not {answers!r}")
    tasks = contest_tasks(number)
    if len(given) < TASKS * QUERIES:
        return question(*tasks[len(given) // QUERIES], len(given) % QUERIES)
    rows = {"you": torch.tensor(given).view(TASKS, QUERIES)}
    rows |= {name: torch.stack([read(method, task) for task in tasks]) for name, method in contestants().items()}
    truth = torch.stack([labels for _, (_, labels) in tasks])
    found = {name: Evaluation.over_tasks((row == truth).double().mean(1)) for name, row in rows.items()}
    return accuracy_bars({name: (result.mean, result.ci95) for name, result in found.items()}, 1 / WAYS)


def question(support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], asked: int) -> Picture:
    """The five support images, numbered from 1, and a query image."""
    figure, row = axes(7.2, 1.6, columns=WAYS + 1)
    for ax, image, title in zip(row, [*support[0], query[0][asked]], ["1", "2", "3", "4", "5", "which is this?"]):
        ax.spines[:].set_visible(True)
        show_image(ax, image, "#0072B2" if title.endswith("?") else None)
        ax.set_title(title, fontsize=11)
    return Picture(figure, "Five unfamiliar characters, numbered 1 to 5, and a further drawing of one of them.")
