"""A release has one version, and says of every distribution what is new."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.versions import ReleaseError, check, is_final, notes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of version 1.2.0 with two distributions."""
    version = tmp_path / "oubliette_core/src/oubliette_core/_version.py"
    version.parent.mkdir(parents=True)
    version.write_text('__version__ = "1.2.0"\n')
    for name in ("core", "docker"):
        text = (
            f"# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n- New in {name}.\n\n## [1.1.0]\n\n- Old.\n"
        )
        file = tmp_path / f"oubliette_{name}" / "CHANGELOG.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_a_tag_that_fits_gives_the_version(root: Path) -> None:
    """With the notes of all distributions, and nothing of other versions."""
    assert "1.2.0" == check("v1.2.0", root)
    assert "## oubliette-core\n\n- New in core.\n\n## oubliette-docker\n\n- New in docker.\n" == notes("1.2.0", root)


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2", "v1.2.1", "v1.2.0.dev0", "v1.2.0; true", "v"])
def test_any_other_tag_is_refused(root: Path, tag: str) -> None:
    """Before anything is built."""
    with pytest.raises(ReleaseError):
        check(tag, root)


@pytest.mark.parametrize("text", ["# Changelog\n", "## [1.2.0]\n\n## [1.1.0]\n\n- Old.\n"])
def test_a_changelog_has_to_say_something(root: Path, text: str) -> None:
    """An empty section is as bad as none."""
    (root / "oubliette_docker" / "CHANGELOG.md").write_text(text)

    with pytest.raises(ReleaseError, match=r"oubliette_docker.* has no section \[1.2.0\]"):
        check("v1.2.0", root)


@pytest.mark.parametrize(("version", "final"), [("1.2.0", True), ("1.2.0rc1", False), ("1.2.0b2", False)])
def test_a_preview_is_not_final(version: str, final: bool) -> None:
    """Nobody gets it without asking for it."""
    assert final is is_final(version)
