"""What README and docs say can be done: every program runs, every command is understood, every link leads somewhere."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from torchvision.transforms.functional import to_pil_image

from cxgrad_lite import METHODS
from cxgrad_lite.commands import build_parser
from cxgrad_lite.commands.train import changed, find_recipe
from cxgrad_lite.course.comparison import lines_of_code
from data_utils import load

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": ROOT / "README.md"} | {f"docs/{path.name}": path for path in (ROOT / "docs").glob("*.md")}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FEWER = [(r"iterations=\d+", "iterations=2"), (r"episodes=\d+", "episodes=2"), (r"episodes\(100\)", "episodes(2)")]
TOOLS = {"python", "torchrun", "make", "pytest", "pip", ".venv/bin/pip", "conda"}
UNCHECKED = {"git", "cd", "python3", ".venv/bin/jupyter"}
SHOWN_NAMES = {"Meta-SGD": "MetaSGD", "MAML++": "MAMLPlusPlus"}


def blocks(kind: str) -> dict[str, str]:
    """Fenced blocks of one kind, by page and number."""
    return {
        f"{name} {number}": block[2]
        for name, text in TEXTS.items()
        for number, block in enumerate((block for block in BLOCK.finditer(text) if block[1] == kind), 1)
    }


PROGRAMS, FIRST = blocks("python"), "README.md 1"


def commands() -> list[str]:
    """Every line of a block without a language, and the code in running text that calls a tool; each one once."""
    lines = [line for block in blocks("").values() for line in block.splitlines()]
    spans = [span for text in TEXTS.values() for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))]
    spans = [span for span in spans if " " in span and words_of(span)[:1] and words_of(span)[0] in TOOLS]
    return sorted({" ".join(words_of(line)) for line in lines + spans})


def words_of(command: str) -> list[str]:
    """Words of a command, without a comment and without the variables in front of it."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError:  # a code span with an apostrophe
        return []
    return list(itertools.dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=\S+", word), words))


def make_my_images(folder: Path) -> None:
    """What `own-images.md` asks for: 32 folders with 20 images each."""
    glyphs = load("glyphs", "train")
    for label, name in enumerate(glyphs.names[:32]):
        own = folder / f"class{label}"
        own.mkdir(parents=True)
        for number, image in enumerate(itertools.islice(itertools.cycle(glyphs.of_class(name)), 20)):
            to_pil_image(image).save(own / f"{number}.png")


# --- programs and commands


@pytest.mark.parametrize("place", [place for place in PROGRAMS if place != FIRST])
def test_programs_run(place: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, known = PROGRAMS[place], set(METHODS)
    if "my_images" in program:
        make_my_images(tmp_path / "my_images")
    for usual, fewer in FEWER:
        program = re.sub(usual, fewer, program)
    exec(compile(program, place, "exec"), {"__name__": "documentation"})
    for name in set(METHODS) - known:  # the method of own-method.md
        del METHODS[name]


def test_the_first_program_prints_what_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PROGRAMS[FIRST], "README.md", "exec"), {"__name__": "documentation"})
    printed, promised = capsys.readouterr().out, blocks("text")[FIRST]
    number = re.compile(r"\d+(?:\.\d+)?")
    assert number.sub("#", printed) == number.sub("#", promised)
    # Another machine rounds differently, and an image or two may change sides.
    assert [float(n) for n in number.findall(printed)] == pytest.approx(
        [float(n) for n in number.findall(promised)], rel=0.1, abs=0.05
    )


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[:90])
def test_commands_are_understood(command: str) -> None:
    tool, *rest = words = command.split()
    if "cxgrad_lite" in words and words[words.index("cxgrad_lite") - 1] == "-m":
        options = build_parser().parse_args(words[words.index("cxgrad_lite") + 1 :])
        if options.command == "train":
            assert changed(find_recipe(options.recipe), options.set)
    elif tool == "python":
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        assert [word for word in rest if word.startswith("--") and f'"{word}"' not in source] == []
    elif tool == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^(?:[\w-]+ )*{rest[0]}(?: [\w-]+)*:", makefile, re.MULTILINE)
    elif tool in TOOLS:
        files = [word for word in rest if re.search(r"^tests/|\.(?:txt|yml)$", word)]
        assert [name for name in files if not (ROOT / name).exists()] == []
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert [extra for extra in re.findall(r"\.\[(\w+)\]", command) if f"\n{extra} = [" not in project] == []
    else:
        assert tool in UNCHECKED


# --- links


def test_links_lead_to_files() -> None:
    links = {(name, link) for name, text in TEXTS.items() for link in re.findall(r"\]\((?!https?://)([^)#]+)", text)}
    assert len(links) > 50
    assert [link for name, link in links if not (PAGES[name].parent / link).exists()] == []


def test_links_lead_to_headings() -> None:
    for name, text in TEXTS.items():
        for link, heading in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", text):
            target = (PAGES[name].parent / link if link else PAGES[name]).read_text(encoding="utf-8")
            headings = [re.sub(r"[^\w -]", "", title.lower()) for title in re.findall(r"^#+ (.+)$", target, re.M)]
            assert heading in [title.replace(" ", "-") for title in headings], f"{name}: {link}#{heading}"


def test_every_page_is_listed() -> None:
    assert [name for name in PAGES if Path(name).name not in TEXTS["docs/README.md"]] == []


# --- numbers


def rows(name: str) -> dict[str, list[str]]:
    """Cells of each method's row in a table of all methods."""
    table = re.findall(r"^\| ([\w+-]+) \| (.*) \|$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    named = {SHOWN_NAMES.get(method, method): [cell.strip() for cell in cells.split("|")] for method, cells in table}
    return {method: cells for method, cells in named.items() if method in METHODS}


@pytest.mark.parametrize("name", ["README.md", "docs/numbers.md"])
def test_the_zoo_is_that_of_the_results(name: str) -> None:
    results, shown = rows("results/zoo.md"), rows(name)
    assert list(shown) == list(METHODS)
    for method, cells in shown.items():
        accuracies = [cell for cell in cells if "±" in cell]
        assert accuracies == [cell.partition(",")[0] for cell in results[method][:2]]
        if name != "README.md":
            rates = [cell.partition("α = ")[2] for cell in results[method][:2]]
            assert [cells[1], cells[3], cells[4]] == [*rates, results[method][2]]


def test_the_lines_of_each_method() -> None:
    counted = {name: int(cells[-1]) for name, cells in rows("results/zoo.md").items()}
    assert counted == {name: lines_of_code(method) for name, method in METHODS.items()}
