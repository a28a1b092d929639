"""The report is what the results say, and the findings quote nothing that is not in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from cxgrad_lite import Evaluation
from cxgrad_lite.commands import main
from cxgrad_lite.commands.report import report
from cxgrad_lite.commands.tables import verdict
from cxgrad_lite.recipes import paper, pretrained
from cxgrad_lite.recipes.recipe import PRETRAINED
from cxgrad_lite.recipes.results import Arm, difference, mean_and_intervals
from cxgrad_lite.recipes.study import Study

RESULTS = Path(__file__).parents[2] / "results"


def test_the_page_is_the_one_that_the_results_make() -> None:
    made = report(RESULTS / "paper", (RESULTS / "template.md").read_text(encoding="utf-8"))
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == made, "python -m cxgrad_lite sweep report"


PAPER = {"6.7", "9.0", "11.2"}  # leads over MAML that the paper's tables print


def test_findings_quote_the_page() -> None:
    page, findings = ((RESULTS / name).read_text(encoding="utf-8") for name in ("README.md", "findings.md"))
    readme = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    findings += next(line for line in readme.splitlines() if line.startswith("Photographs tell more."))
    numbers = re.findall(r"[+−]?\d[\d.,]*\d(?: %)?", re.sub(r"\]\([^)]*\)", "", findings))
    results = [number for number in numbers if "." in number]
    assert len(results) > 12
    shown = re.findall(r"[+−]?\d[\d.]*\d", page)
    shown += [number[1:] for number in shown if number[0] in "+−"]
    assert {number.removesuffix(" %") for number in results} - set(shown) - PAPER == {"2.3", "0.09"}, (
        "see the networks' test"
    )


def test_findings_quote_shares_and_steps_as_measured() -> None:
    findings = (RESULTS / "findings.md").read_text(encoding="utf-8")
    main = Study(RESULTS / "paper").main
    whole, constant, maml = (main[name].accuracies.mean(1) for name in ("CxGrad", "constant", "MAML"))
    shares = [f"{share:.0f}" for share in (100 * (constant - maml) / (whole - maml)).tolist()]
    assert "{}, {} and {} %".format(*shares) in findings
    step = 100 * main["CxGrad"].mean_of("relative")[3]
    assert f"moves block 4 by {step:.0f} % of its norm" in findings


def test_findings_on_other_norms_are_those_of_the_networks() -> None:
    """What another task's norms cost in four hundred tasks, and what wrong norms of block 4 do."""
    runs = [run for run in json.loads((PRETRAINED / "photographs.json").read_text())["runs"] if "again" in run]
    assert len(runs) == 7

    def change(one: list[int], other: list[int]) -> tuple[float, float]:
        points = Evaluation.over_tasks((torch.tensor(one) - torch.tensor(other)).double() / 0.75)
        return points.mean, points.ci95

    findings = (RESULTS / "findings.md").read_text(encoding="utf-8")
    *_, widest, three_steps = sorted(run["spread"][3] for run in runs)
    assert f"{widest:.1f} % at most" in findings and f"differs by {three_steps:.0f} %" in findings
    lost, half = change(runs[-1]["right"]["zero context"], runs[-1]["right"]["both"])
    assert f"loses {-lost:.0f} points" in findings and half < 2
    network, _ = pretrained(paper.variant("CxGrad", inner_lr=0.003, inner_steps=3))
    start = network.generator(network.zero_context())[3].item()
    assert f"block 4's γ from {start:.2f} to" in findings
    clear = patient = 0
    for run in runs:
        its_own, other = (run["right"][what] + run["again"][what] for what in ("both", "another task's"))
        mean, half = change(other, its_own)
        assert len(its_own) == 400 and half - mean < 0.2, "as large as a fifth of a point"
        clear += mean + half < 0
        mean, half = change(run["right"]["block 4 × 1.02"], run["right"]["both"])
        assert mean + half > 0, "two per cent cost something"
        mean, half = change(run["right"]["block 4 × 1.3"], run["right"]["both"])
        patient += mean + half > 0
    assert (clear, patient) == (1, 5)


def test_findings_on_old_features_are_those_of_the_networks() -> None:
    """The nearest class mean before and after adaptation, in a hundred tasks."""
    findings = (RESULTS / "findings.md").read_text(encoding="utf-8")
    runs = json.loads((PRETRAINED / "features.json").read_text())["runs"]
    nearest = {(run["setting"], run["name"]): torch.tensor(run["nearest"]).double() / 0.75 for run in runs}
    small, large = "photographs", "photographs, 8 × 8"
    for setting, maml, cxgrad in ((small, "α = 0.03", "α = 0.003"), (large, "α = 0.03", "α = 0.001")):
        old, new = nearest[setting, f"MAML, {maml}"]
        gain = Evaluation.over_tasks(new - old)
        assert gain.mean < gain.ci95 < 1
        its_old, its_new = nearest[setting, f"CxGrad, {cxgrad}"]
        assert its_old.mean() < old.mean() and f"{its_new.mean():.0f}" == "65"
        assert f"{old.mean():.0f} %" in findings and f"{its_old.mean():.0f} %" in findings
        random = next(run["nearest_fresh"] for run in runs if run["setting"] == setting)
        assert f"{torch.tensor(random).double().mean() / 0.75:.0f} %" in findings
        if setting == small:
            pairs = [nearest[small, f"{method}, α = 0.01"].mean(1).tolist() for method in ("CxGrad", "MAML")]
            (old_1, new_1), (old_2, new_2) = pairs
            assert f"{old_1:.0f} % against {old_2:.0f} % by the old" in findings
            assert f"{new_1:.0f} % against {new_2:.0f} % by the new" in findings
        itself = next(run["right"] for run in runs if (run["setting"], run["name"]) == (setting, f"MAML, {maml}"))
        assert abs(torch.tensor(itself).double()[:, 5].mean() / 0.75 - old.mean()) < 2, "the network ends no higher"


def test_an_empty_folder_makes_a_page_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "template.md").write_text("{runs} on {devices}\n{paper}\n{main}\n{map8_differences}\n{rates}")
    assert main(["sweep", "report", "--out", str(tmp_path / "none"), "--page", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("0 on none") and "CxGrad; CxGrad, context frozen" in page and "compared yet" in page


def arm_of(values: list[list[float]], seeds: list[int], device: str = "NVIDIA H200") -> Arm:
    rows = [{"recipe": {"seed": seed}, "test": {"per_task": row}, "device": device} for seed, row in zip(seeds, values)]
    return Arm("an arm", tuple(rows))


def test_differences_are_paired_by_seed_and_task() -> None:
    one, other = arm_of([[0.5, 0.7], [0.2, 0.3]], [0, 1]), arm_of([[0.1, 0.1], [0.9, 0.8]], [1, 2])
    values, seeds = difference(one, other)
    assert seeds == [1]
    torch.testing.assert_close(values, torch.tensor([[10.0, 20.0]], dtype=torch.float64), atol=1e-5, rtol=0)


def test_means_of_two_arms_are_those_of_their_common_seeds() -> None:
    one, other = arm_of([[0.5], [0.2], [0.9]], [0, 1, 2]), arm_of([[0.1], [0.8]], [2, 1])
    assert one.beside(other).accuracies.flatten().tolist() == pytest.approx([20, 90])
    assert other.beside(one).seeds == [2, 1] and one.beside(arm_of([[0.4]], [5])).results == ()


def test_a_gpu_and_a_cpu_need_a_second_test() -> None:
    gpu, cpu = arm_of([[0.9, 0.9]], [1]), arm_of([[0.1, 0.1]], [1], "x86_64 CPU, 1 thread(s)")
    assert difference(gpu, cpu)[1] == [], "other tasks"
    second = arm_of([[0.2, 0.4]], [1], "x86_64 CPU, 1 thread(s)").results[0]
    tested = Arm("tested twice", (gpu.results[0] | {"again": second},))
    expected = torch.tensor([[10.0, 30.0]], dtype=torch.float64)
    torch.testing.assert_close(difference(tested, cpu)[0], expected)
    torch.testing.assert_close(difference(cpu, tested)[0], -expected)
    assert difference(tested, gpu)[0].sum() == 0, "where both have the GPU's tasks, these"


def test_intervals_over_tasks_and_over_seeds() -> None:
    values = torch.tensor([[1.0, 3.0], [3.0, 5.0], [5.0, 7.0]], dtype=torch.float64)
    average, over_tasks, over_seeds = mean_and_intervals(values)
    assert average == pytest.approx(4)
    assert over_tasks == pytest.approx(1.96 * 2**0.5 / 2**0.5)
    assert over_seeds == pytest.approx(4.3027 * 2 / 3**0.5, rel=1e-4)
    assert (
        verdict(values).startswith("undecided") and verdict(values + 10) == "ahead" and verdict(values - 20) == "behind"
    )
    assert verdict(values[:1]) == "one seed decides nothing"


def test_every_result_says_where_it_comes_from() -> None:
    for path in (RESULTS / "paper").glob("*.json"):
        result = json.loads(path.read_text())
        assert re.fullmatch(r"[0-9a-f]{40}", result["commit"]) and result["device"] and result["command"], path
