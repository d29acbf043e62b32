"""What README and docs promise about this repository."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, tracked

PAGES = tracked("*.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A dead link tells a newcomer that nobody reads these pages."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    dead = [
        target
        for target in targets
        if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]

    assert [] == dead


def test_the_two_commands_stand_at_the_top() -> None:
    """A newcomer finds in one screen what it is, how to install it and what to type in a fresh clone."""
    top = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    wanted = ["pip install 'oubliette-core[docker]'", "macOS", "./dev demo", "./dev test"]

    assert wanted == [words for words in wanted if words in top]


def test_the_jobs_that_the_pages_name_exist() -> None:
    """`./dev NAME` runs a nox session, so each name has to be one."""
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)\(", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\./dev (\w+)", "\n".join(page.read_text() for page in PAGES)))

    assert set() == named - sessions - {"test", "list", "NAME"}


@pytest.mark.parametrize("changelog", tracked("*/CHANGELOG.md"), ids=lambda page: page.parent.name)
def test_every_distribution_tells_what_is_new(changelog: Path) -> None:
    """A release takes its notes from here."""
    unreleased = changelog.read_text().partition("## [Unreleased]")[2]

    assert re.search(r"^- .{20,}", unreleased, flags=re.MULTILINE)
