"""How Sphinx makes the course's site from the stored notebooks; see .ci/build_site.py, which prepares the sources."""

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml

project = "cxgrad_lite"
author = "cxgrad_lite authors"
language = "en"
extensions = ["myst_nb"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "amsmath"]
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would come from elsewhere, and no widget is stored
html_theme = "sphinx_book_theme"
html_title = "cxgrad_lite: few-shot learning, live"
html_static_path = ["static"]
html_css_files = ["drawing.css", "site.css"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "repository_url": "https://github.com/cxgrad-lite/cxgrad_lite",
    "use_repository_button": True,
    "use_download_button": False,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_math_renderer = "mathml"
SAME_IN_DOCUTILS = {  # commands that docutils does not know, or reads only with braces
    r"\\[bB]ig(?![a-z])": "",
    r"\\dots(?![a-z])": r"\\ldots",
    r"\\(t?frac)(\d)(\d)": r"\\\1{\2}{\3}",
    r"\\tag\{(.+?)\}": r"\\qquad(\1)",
}


def mathml(writer: Any, node: nodes.Element, as_block: bool) -> None:
    """Formulas as MathML, which browsers draw themselves: no script, and nothing to load from elsewhere."""
    text = node.astext()
    known = text
    for command, same in SAME_IN_DOCUTILS.items():
        known = re.sub(command, same, known)
    try:
        made = tex2mathml(known, as_block=as_block)
    except MathError as error:
        raise ValueError(
            f"{writer.builder.current_docname}: docutils cannot read the formula {text!r}: {error}"
        ) from None
    tag, focus = ("div", ' tabindex="0"') if as_block else ("span", "")  # a wide formula is scrolled by keyboard too
    writer.body.append(f'<{tag} class="math"{focus} title="{html.escape(text)}">{made}</{tag}>')
    raise nodes.SkipNode


def drop_icon_script(app: Any, error: Exception | None) -> None:
    """The theme draws its icons twice, with a font and with a script of 1.5 MB: the font will do."""
    out = Path(app.outdir)
    for page in [] if error else out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"<script[^>]*fontawesome\.js[^>]*></script>", "", text), encoding="utf-8")
    (out / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)


def setup(app: Any) -> None:
    app.connect("build-finished", drop_icon_script)
    inline, block = (lambda w, n: mathml(w, n, False), None), (lambda w, n: mathml(w, n, True), None)
    app.add_html_math_renderer("mathml", inline_renderers=inline, block_renderers=block)
