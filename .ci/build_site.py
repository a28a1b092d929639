"""Builds the course as a site, offline, from the notebooks as they are stored.

Usage: python .ci/build_site.py [folder]     (build/site if none is named)

To read it: python -m http.server -d build/site     (a browser runs no modules from file://)
"""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS, SITE, BROWSER = ROOT / "notebooks", ROOT / "docs" / "site", ROOT / "cxgrad_lite" / "live" / "browser"
PAGES = "https://github.com/cxgrad-lite/cxgrad_lite/blob/main"
BADGE = re.compile(r"\[!\[([^\]]*)\]\(https://[^)]*\)\]\((https://[^)]*)\)")
ELSEWHERE = re.compile(r"\]\(((?:\.\./)+[^)]*|assignments/[^)]*)\)")  # what is in the repository, but not on the site
HEADING = re.compile(r"\]\(#([^)]+)\)")  # JupyterLab writes them with capitals and colons
MODULES = ("charts", "conv4", "drawing", "methods", "results", "sheet", "site", "strokes", "worker")

PANELS = {  # panel without a kernel (or a link to one) → which page has it, and after which cell
    "game": ("01_tasks.ipynb", "ipywidgets.interactive("),
    "parabolas": ("02_maml.ipynb", "two_parabolas("),
    "fan": ("04_batch_norm_and_scale.ipynb", "invariance.fan("),
    "scale": ("04_batch_norm_and_scale.ipynb", "scale_explorer("),
    "gammas": ("05_cxgrad.ipynb", "gamma_dials("),
    "steps": ("06_representation_change.ipynb", "watch_adaptation("),
}


def main(out: Path) -> int:
    """Prepare the sources beside ``out`` and run Sphinx on them; returns its exit status."""
    sources = out.with_name(f"{out.name}-sources")
    for folder in (sources, out):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SITE, sources, ignore=shutil.ignore_patterns(*(f"{panel}.md" for panel in PANELS)))
    static = sources / "static"
    for name in [f"{module}.js" for module in MODULES] + ["drawing.css", "example.json"]:
        shutil.copy(BROWSER / name, static / name)
    shutil.copy(ROOT / "results" / "before_after.png", static)
    export_weights(static)
    export_fan(static)
    export_scale_task(static)
    export_task(static)
    export_steps(static)
    export_contest(sources)
    (sources / "index.md").write_text(front_page(), encoding="utf-8")
    for path in sorted(NOTEBOOKS.glob("*.ipynb")) + sorted(NOTEBOOKS.glob("solutions/*.ipynb")):
        target = sources / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(page_of(path, static)), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", str(sources), str(out)]
    return subprocess.run(command).returncode


def export_weights(static: Path) -> None:
    """The two networks of the drawing panel."""
    from cxgrad_lite.commands.export import export
    from cxgrad_lite.recipes.course import best_zoo_recipe

    for method in ("MAML", "CxGrad"):
        export(Path(best_zoo_recipe("omniglot_small", method, 5).name), static / f"{method}.bin")


def cell_of_the_fan() -> dict[str, Any]:
    """What notebook 04's cell with `toy_loss` makes: the function, the points ``x`` and their ``labels``."""
    import torch
    from torch.nn import functional as F

    cells = json.loads((NOTEBOOKS / PANELS["fan"][0]).read_text(encoding="utf-8"))["cells"]
    source = next(text for text in map("".join, (cell["source"] for cell in cells)) if "def toy_loss(" in text)
    made: dict[str, Any] = {"torch": torch, "F": F, "predict": lambda *args, **options: None}
    exec(source, made)
    return made


def export_fan(static: Path) -> None:
    made = cell_of_the_fan()
    points = {"points": made["x"].tolist(), "labels": made["labels"].tolist()}
    (static / "fan.json").write_text(json.dumps(points), encoding="utf-8")


def export_scale_task(static: Path) -> None:
    """The network and the images of `scale_explorer()`, for the same panel without a kernel."""
    from cxgrad_lite import MAML
    from cxgrad_lite.live import scale_explorer
    from cxgrad_lite.training.checkpoints import save_checkpoint

    panel = scale_explorer(backend="png")
    save_checkpoint(static / "scale.bin", MAML(panel.net))
    task = {"images": base64_of(panel.images), "labels": panel.labels.tolist()}
    (static / "scale.json").write_text(json.dumps(task), encoding="utf-8")
    panel.close()


def export_task(static: Path) -> None:
    """The first task of notebooks 05 and 06, its images as bytes, and the network that adapts to it in 05."""
    from cxgrad_lite.commands.export import export
    from cxgrad_lite.recipes import Recipe

    recipe = Recipe("glyphs", "CxGrad", inner_lr=0.01)
    export(Path(recipe.name), static / "gammas.bin")
    episode = next(recipe.tasks("test").episodes(1))
    task = {
        name: {"images": base64_of(as_bytes(images)), "labels": labels.tolist()}
        for name, (images, labels) in zip(("support", "query"), episode)
    }
    (static / "task.json").write_text(json.dumps(task, separators=(",", ":")), encoding="utf-8")


def export_steps(static: Path) -> None:
    """What notebook 06's `watch_adaptation` shows of that task after each inner step, for MAML and CxGrad."""
    from torch.nn.functional import cross_entropy

    from cxgrad_lite.live import watch_adaptation
    from cxgrad_lite.probes import states
    from cxgrad_lite.recipes import pretrained
    from cxgrad_lite.recipes.course import gradient_studies

    stored = {}
    for study in [study for study in gradient_studies() if study.poolings == 2]:
        method, task = pretrained(study)[0], next(study.tasks("test").episodes(1))
        panel, (images, labels) = watch_adaptation(method, task, backend="png"), task[0]
        thetas, trace = states(method, task[0])
        stored[study.method] = {
            "answers": panel.predicted.tolist(),
            "shown": panel.shown,
            "losses": [cross_entropy(method.logits(theta, images), labels).item() for theta in thetas],
            "norms": list(panel.grad_norms.values()),
            "scaling": [
                list(block) for block in zip(*(step.scaling.tolist() for step in trace if step.scaling is not None))
            ],
        }
        panel.close()
    (static / "steps.json").write_text(json.dumps(stored, separators=(",", ":")), encoding="utf-8")


def export_contest(sources: Path) -> None:
    """The tasks of `beat_the_machine`, its networks, and its page with a picture of the first question."""
    from cxgrad_lite.commands.export import export
    from cxgrad_lite.course.contest import SETS, TRAINED, beat_the_machine, contest_tasks
    from cxgrad_lite.recipes.course import best_zoo_recipe

    static = sources / "static"
    for method in TRAINED:
        export(Path(best_zoo_recipe("glyphs", method, 1).name), static / f"{method}-1shot.bin")
    for number in range(1, SETS + 1):
        tasks = [
            {
                "support": base64_of(as_bytes(support[0])),
                "query": base64_of(as_bytes(images)),
                "labels": labels.tolist(),
            }
            for support, (images, labels) in contest_tasks(number)
        ]
        (static / f"contest-{number}.json").write_text(json.dumps(tasks, separators=(",", ":")), encoding="utf-8")
    picture = beat_the_machine()
    picture.save(static / "contest.png")
    width, height = size_of((static / "contest.png").read_bytes())
    page, shown = sources / "beat_the_machine.md", {"width": width, "height": height, "alt": picture.alt}
    page.write_text(re.sub(r"\{contest_(\w+)\}", lambda m: str(shown[m[1]]), page.read_text("utf-8")), encoding="utf-8")


def as_bytes(images: Any) -> Any:
    """Images in [0, 1] as they are stored."""
    return (255 * images).round().byte()


def base64_of(tensor: Any) -> str:
    """The numbers of a tensor for a page, in a third of the room that their digits take."""
    return base64.b64encode(tensor.numpy().tobytes()).decode()


def front_page() -> str:
    """index.md with what has been measured filled in."""
    measured = json.loads((ROOT / "results" / "drawings.json").read_text(encoding="utf-8"))
    as_drawn = [row for row in measured["rows"] if (row["images"], row["batch"]) == ("drawn", "with_support")]
    numbers = {f"{row['method']}_{row['shots']}": f"{100 * row['mean']:.0f}\N{NO-BREAK SPACE}%" for row in as_drawn}
    by_itself = [row for row in measured["rows"] if (row["images"], row["batch"]) == ("drawn", "alone")]
    numbers |= {f"{row['method']}_alone": f"{100 * row['mean']:.0f}\N{NO-BREAK SPACE}%" for row in by_itself}
    widest = max(row["ci95"] for row in as_drawn + by_itself)
    numbers |= {"tasks": str(measured["tasks"]), "ci": f"{100 * widest:.1f}"}
    text = (SITE / "index.md").read_text(encoding="utf-8")
    return re.sub(r"\{(\w+_\d|\w+_alone|tasks|ci)\}", lambda m: numbers[m[1]], text)


def page_of(path: Path, static: Path) -> dict[str, Any]:
    """A stored notebook for the site: badges as links, pictures as files with their alternative text."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    here = path.parent.relative_to(ROOT)
    for panel, (name, call) in PANELS.items():
        if path == NOTEBOOKS / name:
            add_panel(notebook["cells"], panel, call)
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            text = BADGE.sub(r'<a class="cx-badge" href="\2">\1</a>', "".join(cell["source"]))
            text = HEADING.sub(lambda m: f"](#{m[1].lower().replace(':', '')})", text)
            cell["source"] = ELSEWHERE.sub(lambda m: repository_link(m, here), text)
        for i, output in enumerate(cell.get("outputs", [])):
            if "image/png" in output.get("data", {}):
                name = f"{path.stem}-{number}-{i}.png"
                depth = len(here.parts)
                output["data"] = {"text/html": as_file(output, static / name, "../" * depth)}
    return notebook


def add_panel(cells: list[dict[str, Any]], panel: str, call: str) -> None:
    """The live panel after the cell that makes it in the notebook."""
    made = [i for i, cell in enumerate(cells) if call in "".join(cell["source"]) and cell.get("outputs")]
    text = (SITE / f"{panel}.md").read_text(encoding="utf-8")
    cells.insert(made[0] + 1, {"cell_type": "markdown", "id": f"site-{panel}", "metadata": {}, "source": text})


def repository_link(match: re.Match[str], here: Path) -> str:
    """A link to a page of the site stays; one to another file of the repository leads there."""
    target = match[1]
    inside = (ROOT / here / target.partition("#")[0]).resolve()
    if inside.suffix == ".ipynb" and inside.parent in (NOTEBOOKS, NOTEBOOKS / "solutions"):
        return match[0]
    return f"]({PAGES}/{inside.relative_to(ROOT).as_posix()})"


def as_file(output: dict[str, Any], file: Path, up: str) -> str:
    """Writes a stored picture to a file; the element that shows it, with its size, so that the page does not jump."""
    data = output["data"]
    png = base64.b64decode("".join(data["image/png"]))
    file.write_bytes(png)
    width, height = size_of(png)
    alt = output.get("metadata", {}).get("image/png", {}).get("alt") or "".join(data.get("text/plain", ""))
    size = f'width="{width}" height="{height}"'
    return f'<img src="{up}_static/{file.name}" alt="{html.escape(alt)}" {size} loading="lazy">'


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"))
