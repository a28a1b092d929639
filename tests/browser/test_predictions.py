"""A prediction in JupyterLab, made with the keyboard alone; nothing waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Lab, ask, errors_in, open_notebook, picture, run_all, screenshots
from panel_page import write_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]

ASK = """
from cxgrad_lite.course.lesson import calibration, predict
curve = predict("How does it grow?", curve=range(3), x_label="inner steps")
pick = predict("Where is the best start?", pick=["at A", "at B"])
"""
ANSWER = """
curve.reveal([20, 60, 90], why={"low": "It begins at chance."})
pick.reveal("at A", why={"at B": "B is steep."})
"""
FOCUSED = "() => document.activeElement.textContent.trim()"


def tab_to(page: Any, text: str) -> None:
    seen = []
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED)[:30])
        if seen[-1] == text:
            return
    raise AssertionError(f"Tab leads to {seen}, not to {text!r}")


def test_a_guess_by_keyboard_uncovers_the_answer(root: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    write_notebook(root / "predictions.ipynb", [ASK, ANSWER, "calibration()"])
    open_notebook(page, lab, "predictions.ipynb")
    cells = run_all(page)
    assert errors_in(cells) == [] and len(cells) == 3, "nothing waited"
    assert "none of them was committed" in str(cells[2]["outputs"])
    covers = page.get_by_text("The answer is here.")
    covers.first.wait_for()
    assert covers.count() == 2 and page.locator("img.widget-image").count() == 0

    handle = page.locator(".noUi-handle").first
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    tab_to(page, "Commit")
    page.keyboard.press("Enter")
    page.locator("img.widget-image").first.wait_for()
    assert covers.locator("visible=true").count() == 1, "the other answer stays covered"
    guess = ask(page, "curve.guess")
    assert guess[0] < 50 and guess[1:] == [50, 50]
    assert page.get_by_text("Furthest off: 2, with 90 % where you said 50 %").count() > 0

    page.locator("button", has_text="at A").first.focus()
    tab_to(page, "at B")
    page.keyboard.press("Space")
    tab_to(page, "Commit")
    page.keyboard.press("Space")
    page.get_by_text("B is steep.").first.wait_for()
    assert ask(page, "[curve.right, pick.right, pick.guess]") == [False, False, "at B"]
    picture(page, screenshots(tmp_path) / "predictions.png")
    assert page.complaints == []
