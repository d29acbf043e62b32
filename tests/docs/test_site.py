"""The site is whole: it builds without a warning, no link is dead, and it needs nothing from anywhere else."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import ROOT


class _Page(HTMLParser):
    """A page's links, the places that can be linked to, and what a browser fetches to show it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.fetched: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down what is of interest."""
        given = {name: value or "" for name, value in attrs}
        self.places.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "search", "index", "next", "prev"):
            self.fetched.append(given["href"])
        elif "src" in given:
            self.fetched.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as the session ``docs`` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    """Its pages."""
    return {file: _Page(file) for file in site.rglob("*.html")}


def test_no_link_is_dead(site: Path, pages: dict[Path, _Page]) -> None:
    """Neither a page nor a place on one is missing; the search page finds its places by itself."""
    dead = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            there = target in pages and parts.fragment in pages[target].places | {""}
            if not parts.scheme and not there and not (target.is_file() and not parts.fragment):
                dead.append(f"{file.relative_to(site)}: {link}")

    assert [] == dead
    assert len(pages) > 20


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, _Page]) -> None:
    """No font, script or picture of somebody else's: the site works where there is no network."""
    fetched = [link for page in pages.values() for link in page.fetched if urlsplit(link).scheme not in ("", "data")]
    styles = [
        file.name for file in site.rglob("*.css") if "url(http" in file.read_text() or "url(//" in file.read_text()
    ]

    assert [] == fetched
    assert [] == styles


def test_an_image_of_ones_own_is_two_clicks_away(site: Path, pages: dict[Path, _Page]) -> None:
    """From the first page to the page, and there to the place that says how."""
    assert "CONTAINER_TYPES.html" in pages[site / "index.html"].links
    assert "#add-an-image-of-your-own" in pages[site / "CONTAINER_TYPES.html"].links


def test_every_page_is_found_from_the_first(site: Path, pages: dict[Path, _Page]) -> None:
    """A page that nothing leads to is not there for a reader."""
    first = {(site / urlsplit(link).path).resolve() for link in pages[site / "index.html"].links}
    left = [file.name for file in pages if file not in first]

    assert {"index.html", "genindex.html", "search.html"} >= set(left)
