"""The shipped images go the way of a release, and people put their own tools on top of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.e2e.test_cli_docker import Installed, oubliette
from tests.images import ImageMaker
from tests.images_build.conftest import Built
from tests.release.releaser import releasing

__all__ = ["oubliette"]

pytestmark = pytest.mark.timeout(1800)


def test_users_run_projects_on_what_was_released(
    built: Built, images: ImageMaker, oubliette: Installed, tmp_path: Path
) -> None:
    """The release's steps push both tags of both images; `init` with that registry as mirror pulls them."""
    with releasing(built.engine, ROOT / "containers", built.options, tmp_path / "docker") as steps:
        digests = steps.release(images, "1.2.0")
        for name in digests:
            assert steps.manifest(f"{name}:1.2.0") == steps.manifest(f"{name}:latest")
        oubliette.mirror("ghcr.io", f"{built.engine.registry}/{steps.space}")
        oubliette("init")
        for kind, command, said in (("base", "opencode --version", b"1."), ("dev", "cc --version", b"cc (Debian")):
            oubliette("project", "create", kind, "--type", kind)
            oubliette("container", "start", kind)
            assert oubliette("container", "exec", kind, "--", *command.split())[0].startswith(said)
            oubliette("project", "delete", kind, "--yes")

    assert 2 == len(digests)


def test_the_dockerfile_of_the_docs_builds(built: Built, tmp_path: Path) -> None:
    """What the page on container types shows puts a tool on top of the base."""
    [block] = [block for block in blocks(ROOT / "docs/CONTAINER_TYPES.md") if block.language == "dockerfile"]
    shipped = "ghcr.io/hyphagroup/oubliette-base:latest"
    assert shipped in block.text
    (tmp_path / "Dockerfile").write_text(block.text.replace(shipped, f"oubliette-base:{built.tag}"))
    name = f"oubliette-tools:{built.tag}"
    built.docker("build", "--network", "host", "--tag", name, str(tmp_path))
    try:
        assert built.docker("run", "--rm", name, "psql", "--version").startswith("psql (PostgreSQL)")
    finally:
        built.docker("rmi", "--force", name)
