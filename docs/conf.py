"""How Sphinx builds the site: ``nox -s docs`` does it strictly, and without the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from oubliette_core import __version__

ROOT = Path(__file__).parents[1]
SOURCE = "https://github.com/hyphagroup/oubliette"

project = "Oubliette"
author = "The authors of Oubliette"
version = release = __version__
extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["generate"]
nitpicky = True

myst_heading_anchors = 4

html_theme = "furo"
html_title = "Oubliette"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"source_repository": SOURCE, "source_branch": "main", "source_directory": "docs/"}
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .go"


def out_of_the_site(app: Any, name: str, source: list[str]) -> None:
    """Lead links to files of the repository that are no pages to where the source is read."""
    folder = Path(app.env.doc2path(name)).parent

    def lead(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return link[0]
        return f"]({SOURCE}/blob/main/{target.relative_to(ROOT)}{link[2] or ''})"

    source[0] = re.sub(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)", lead, source[0])


def setup(app: Any) -> None:
    """Register what is ours."""
    app.connect("source-read", out_of_the_site)
