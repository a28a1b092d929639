"""The panels of the site's pages: the numbers of the notebooks' panels, by mouse, by keyboard and by link."""

from __future__ import annotations

import base64
import json
import re
import runpy
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM

from cxgrad_lite.course.contest import contest_tasks, contestants, read
from cxgrad_lite.course.lesson import beat_the_machine, gamma_dials, two_parabolas
from cxgrad_lite.live import scale_explorer, watch_adaptation
from cxgrad_lite.recipes import Recipe, pretrained
from cxgrad_lite.recipes.course import gradient_studies
from cxgrad_lite.training.evaluation import Evaluation

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]


def dial(visit: Any) -> Any:
    page = visit("notebooks/04_batch_norm_and_scale")
    page.locator(".cx-scale .cx-chart").wait_for(timeout=60_000)
    return page


def test_the_dial_shows_what_the_notebooks_panel_shows(visit: Any) -> None:
    page = dial(visit)
    page.get_by_label("layer", exact=True).select_option("block 2")
    page.get_by_label("a, from 0.1 to 10").fill("0.4")
    a = round(10**0.4, 2)
    assert page.url.endswith(f"#layer=block-2&a={a}")
    line = page.locator(".cx-scale code").inner_text()
    made: dict[str, Any] = {}
    exec(line.removesuffix("; panel"), {"scale_explorer": scale_explorer}, made)
    bars = page.locator(".cx-scale rect").evaluate_all("bars => bars.map(bar => Number(bar.dataset.value))")
    panel = made["panel"]
    assert panel.a.value == a and panel.layer.value == "block 2"
    assert bars[0::2] == pytest.approx(list(panel.norms_at_1.values()), rel=1e-4)
    assert bars[1::2] == pytest.approx(list(panel.norms.values()), rel=1e-4)
    panel.close()


ROUND_TRIPS = """async () => {
    const from = name => import(document.baseURI + '/../../_static/' + name + '.js');
    const {readState, writeState, fromDial} = await from('dials'), game = await from('contest');
    const below = n => Math.floor(n * Math.random());
    const between = ({low, high, step, log}) => {
        const [from, to] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
        return fromDial({log}, from + step * below(Math.floor((to - from) / step) + 1));
    };
    const value = field => field.choices ? field.choices[below(field.choices.length)] : between(field);
    const trips = {};
    for (const panel of ['fan', 'scale', 'parabolas', 'gammas', 'steps']) {
        const {FIELDS} = await from(panel);
        const random = () => Object.fromEntries(FIELDS.map(field => [field.name, value(field)]));
        trips[panel] = Array.from({length: 200}, random).map(s => [s, readState(FIELDS, writeState(FIELDS, s))]);
    }
    const answers = () => Array.from({length: below(51)}, () => 1 + below(5)).join('');
    const games = Array.from({length: 200}, () => ({set: 1 + below(5), answers: answers()}));
    return {...trips, contest: games.map(state => [state, game.readState(game.writeState(state))])};
}"""


def test_two_hundred_states_of_each_panel_go_through_the_address(visit: Any) -> None:
    trips = visit("notebooks/04_batch_norm_and_scale").evaluate(ROUND_TRIPS)
    assert set(trips) == {"fan", "scale", "parabolas", "gammas", "steps", "contest"}
    for panel, states in trips.items():
        assert len(states) == 200 and all(before == after for before, after in states), panel
        assert len({str(before) for before, _ in states}) > 5, "states differ"


DRAWN_AT_RANDOM = """async () => {
    const {packed, unpacked} = await import(document.baseURI + '/../_static/site.js');
    const below = n => Math.floor(n * Math.random());
    const line = () => Array.from({length: 1 + below(9)}, () => [below(1001) / 1000, below(1001) / 1000]);
    const slots = [...'ABCDE'].flatMap(name => [1, 2, 3, 4, 5].map(shot => name + shot)).concat('query');
    const some = () => slots.filter((_, i) => i === 25 || below(2));
    const drawings = () => Object.fromEntries(some().map(slot => [slot, Array.from({length: 1 + below(3)}, line)]));
    const states = Array.from({length: 200}, drawings);
    return Promise.all(states.map(async state => [state, await unpacked(await packed(state))]));
}"""
SHEET = "() => { const {sheet} = document.querySelector('.cx-panel').panel; return [sheet.drawn(), sheet.thickness]; }"


def test_drawings_go_through_the_address(visit: Any) -> None:
    page = visit("index")
    for before, after in page.evaluate(DRAWN_AT_RANDOM):
        assert before == after
    page.get_by_role("button", name="clear all").click()
    box = page.locator(".cx-paper").bounding_box()
    for field, x in (("drawing 1 of character A", 40), ("drawing 2 of character C", 90), ("the character to be", 120)):
        page.get_by_role("button", name=re.compile(f"^{field}")).click()
        page.mouse.move(box["x"] + x, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 2 * x, box["y"] + 170.3, steps=5)
        page.mouse.move(box["x"] - 30, box["y"] + 130, steps=3)  # off the canvas
        page.mouse.up()
    page.get_by_label("pen").fill("3.2")
    page.get_by_role("button", name="link", exact=True).click()
    page.get_by_text("The address of this page now holds your drawings").wait_for()
    drawn = page.evaluate(SHEET)
    assert drawn[0].keys() == {"A1", "C2", "query"} and drawn[1] == 3.2
    (text,) = re.findall(r'drawings="(.*)"', page.locator(".cx-message").inner_text())
    assert json.loads(zlib.decompress(base64.urlsafe_b64decode(text))) == drawn[0]
    link = page.url
    assert link.endswith(f"#pen=3.2&drawings={text}")
    other = visit("index", "phone, dark")
    other.goto(link)
    other.reload()
    other.locator(".cx-message", has_text=re.compile("MAML reads .*CxGrad reads")).wait_for(timeout=120_000)
    assert other.evaluate(SHEET) == drawn
    other.goto(link.partition("#")[0] + "#drawings=nonsense")
    other.reload()
    other.locator("button.cx-full").nth(25).wait_for()  # the example


def test_a_link_brings_the_dial_back(visit: Any) -> None:
    page = visit("notebooks/04_batch_norm_and_scale", "phone, dark")
    page.goto(page.url + "#layer=block-3&a=5")
    page.locator(".cx-scale code", has_text='"block 3", 5').wait_for(timeout=60_000)
    page.goto(page.url.partition("#")[0] + "#layer=nonsense&a=1e9")
    page.locator(".cx-scale code", has_text='"block 4", 1').wait_for(timeout=60_000)


@pytest.mark.parametrize("norm", ["with batch norm", "without batch norm"])
def test_the_fan_is_that_of_the_notebook(visit: Any, norm: str) -> None:
    page = visit("notebooks/04_batch_norm_and_scale")
    page.locator(".cx-fan .cx-chart").first.wait_for(timeout=60_000)
    page.get_by_label("the score").select_option(norm)
    page.get_by_label("direction of w in degrees").fill("130")
    page.get_by_label("length of w").fill("0.7")
    page.get_by_label("layer", exact=True).select_option("block 2")
    assert page.url.endswith(f"#layer=block-2&a=1&norm={norm.replace(' ', '-')}&angle=130&length=0.7")
    made = runpy.run_path(str(ROOT / ".ci" / "build_site.py"))["cell_of_the_fan"]()
    before, _, last = page.locator(".cx-fan code").inner_text().rpartition("; ")
    exec(before, made)
    loss, slope = eval(last, made)
    words = page.locator(".cx-fan [role=status]").inner_text()
    assert f"The loss is {loss:.4f}, the length of the gradient {slope:.4f}, and" in words
    assert ("downhill lies at 90°" in words) == (norm == "with batch norm")


def test_the_parabolas_are_those_of_the_notebooks_panel(visit: Any) -> None:
    page = visit("notebooks/02_maml", "phone, dark")
    page.get_by_label("start w").fill("0.2")
    page.get_by_label("rate α").fill("0.25")
    assert page.url.endswith("#start=0.2&alpha=0.25")
    made: dict[str, Any] = {}
    line = page.locator(".cx-parabolas code").inner_text()
    exec(line.removesuffix("; panel"), {"two_parabolas": two_parabolas}, made)
    panel = made["panel"]
    words = page.locator(".cx-parabolas [role=status]").inner_text()
    assert f"falls from {panel.before:.2f} to {panel.after:.2f}" in words and "one step for each task at 0.00" in words
    panel.close()


def test_the_dials_are_those_of_the_notebooks_panel(visit: Any) -> None:
    page = visit("notebooks/05_cxgrad")
    page.locator(".cx-gammas .cx-chart").first.wait_for(timeout=120_000)
    slider = page.get_by_label("γ of block 4")
    slider.fill("-0.5")
    slider.dispatch_event("change")
    page.locator(".cx-gammas code", has_text="0.316").wait_for(timeout=60_000)
    recipe = Recipe("glyphs", "CxGrad", inner_lr=0.01)
    panel = gamma_dials(pretrained(recipe)[0], recipe.tasks("test"), episodes=1)
    exec(page.locator(".cx-gammas code").inner_text().partition("; ")[2], {"panel": panel})
    bars = page.locator(".cx-gammas rect").evaluate_all("bars => bars.map(bar => Number(bar.dataset.value))")
    assert bars[1:10:2] == pytest.approx(list(panel.grad.values()), rel=1e-3)
    assert bars[11:20:2] == pytest.approx(list(panel.relative.values()), rel=1e-3)
    shown = page.locator(".cx-gammas circle").evaluate_all("dots => dots.map(dot => Number(dot.dataset.y))")
    assert shown[6:] == pytest.approx(panel.accuracy, abs=2)  # an image of 75 may stand between two answers
    panel.close()


def test_the_steps_are_those_of_the_notebooks_panel(visit: Any) -> None:
    page = visit("notebooks/06_representation_change")
    page.get_by_label("inner steps", exact=True).fill("4")
    assert page.url.endswith("#method=CxGrad&step=4")
    page.get_by_label("method", exact=True).select_option("MAML")
    study = next(one for one in gradient_studies() if one.method == "MAML" and one.poolings == 2)
    support, query = next(study.tasks("test").episodes(1))
    made: dict[str, Any] = {
        "nets": {"7 × 7": {"MAML, α = 0.01": pretrained(study)[0]}},
        "watch_adaptation": watch_adaptation,
    }
    exec(
        page.locator(".cx-steps code").inner_text().removesuffix("; panel"),
        made | {"support": support, "query": query},
        made,
    )
    panel = made["panel"]
    assert panel.step.value == 4
    right = round(75 * panel.query_accuracy[4].item())
    assert (
        f"After 4 of 5 inner steps MAML reads {right} of the 75" in page.locator(".cx-steps [role=status]").inner_text()
    )
    told = page.locator(".cx-steps .cx-chart").last.get_attribute("aria-label")
    norms = [float(number) for number in re.findall(r"(?:block \d|head) ([\d.e+-]+\d)", told)]
    assert norms == pytest.approx([by_step[3] for by_step in panel.grad_norms.values()], rel=0.05)
    captions = page.locator(".cx-thumbnails span").all_inner_texts()
    shown = [(int(query[1][i]), int(panel.predicted[4, i])) for i in panel.shown]
    assert [(int(text[0]), int(text[-1])) for text in captions] == shown
    panel.close()


def play(page: Any, tasks: list[Any]) -> str:
    """Plays a game by keyboard, wrong at every seventh drawing; returns the answers."""
    answers = ""
    for _, (_, labels) in tasks:
        for label in labels.tolist():
            answers += str(1 + (label + (len(answers) % 7 == 6)) % 5)
            page.keyboard.press(answers[-1])
        page.keyboard.press("1")  # nothing is asked now
        page.keyboard.press("Enter")  # next task
    return answers


def test_a_game_by_keyboard_against_torch(visit: Any) -> None:
    page = visit("beat_the_machine", "phone, dark")
    page.locator(".cx-tile").first.wait_for()
    page.get_by_role("button", name="ten other tasks").click()
    page.get_by_text("Task 1 of 10, drawing 1 of 5").wait_for()
    for key in ("7", "x", "0", " ", "Escape"):  # no answers
        page.keyboard.press(key)
    page.get_by_text("Task 1 of 10, drawing 1 of 5").wait_for()
    page.goto(page.url.partition("#")[0] + "#set=2")
    tasks = contest_tasks(2)
    answers = play(page, tasks)
    assert page.url.endswith("#set=2&answers=" + "-".join(answers[i : i + 5] for i in range(0, 50, 5)))
    page.wait_for_function("document.querySelectorAll('.cx-game rect').length == 5", timeout=120_000)

    exact = [tuple(((255 * images).round().double() / 255, labels) for images, labels in task) for task in tasks]
    truth = torch.stack([labels for _, (_, labels) in tasks])
    rows = {
        name: torch.stack([read(method.double(), task) for task in exact]) for name, method in contestants().items()
    }
    assert page.evaluate("document.querySelector('.cx-game').game.rows") == {n: r.tolist() for n, r in rows.items()}
    rows["you"] = torch.tensor([int(answer) - 1 for answer in answers]).view(10, 5)
    for name, row in rows.items():
        expected, bar = (
            Evaluation.over_tasks((row == truth).double().mean(1)),
            page.locator(f"rect[data-name='{name}']"),
        )
        assert float(bar.get_attribute("data-mean")) == pytest.approx(expected.mean, abs=1e-12)
        assert float(bar.get_attribute("data-ci")) == pytest.approx(expected.ci95, abs=1e-12)
    difference = 100 * ((rows["you"] == truth).double() - (rows["MAML"] == truth).double()).mean(1)
    gain = Evaluation.over_tasks(difference)
    said = page.locator(".cx-game li", has_text="MAML").inner_text().replace("−", "-")
    assert said.startswith(f"you minus MAML: {gain.mean:+.1f} ± {gain.ci95:.1f} points")

    picture = eval(page.locator(".cx-game code").inner_text(), {"beat_the_machine": beat_the_machine})
    told = page.locator(".cx-game svg text").all_text_contents()
    assert all(f"{name} {value} %" in picture.alt for name, value in zip(told[0:-1:2], told[1:-1:2]))


def test_a_game_goes_on_from_its_link(visit: Any) -> None:
    page = visit("beat_the_machine")
    home = page.url
    page.goto(home + "#set=3&answers=12345-2")
    page.get_by_text("Task 2 of 10, drawing 2 of 5").wait_for()
    page.get_by_role("button", name="3: it is this character").click()
    assert page.url.endswith("#set=3&answers=12345-23")
    page.reload()
    page.get_by_text("Task 2 of 10, drawing 3 of 5").wait_for()
    for nonsense in ("#set=9&answers=1", "#set=1&answers=678", "#set=1&answers=" + "1" * 51, "#answers"):
        page.goto(home + nonsense)
        page.locator(".cx-game code", has_text='beat_the_machine(1, "")').wait_for()


def test_a_game_without_workers(visit: Any) -> None:
    page = visit("beat_the_machine")
    page.add_init_script("delete window.Worker")
    page.goto(page.url + "#set=1&answers=" + "12345" * 10)
    page.reload()
    page.get_by_text("This browser has no web workers").wait_for()
    assert page.locator(".cx-game rect").count() == 2  # the reader and the nearest pixels


@pytest.mark.parametrize("answers", ["6", "1" * 51, "1 2"])
def test_what_is_no_game_is_refused(answers: str) -> None:
    with pytest.raises(ValueError, match="up to 50 digits from 1 to 5"):
        beat_the_machine(1, answers)
