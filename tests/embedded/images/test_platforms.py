"""Which of several platforms an image is taken for."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from oubliette_embedded.images._platforms import choose, matches, own_platform


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/x86_64", "linux/amd64", True),
        ("linux/arm64", "linux/aarch64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/arm", "linux/arm/v6", True),
        ("linux/amd64", "", True),
        ("LINUX/AMD64", "linux/amd64", True),
    ],
)
def test_platforms_match(wanted: str, found: str, expected: bool) -> None:
    """By their names and those that they also go by; what is not said matches."""
    assert expected is matches(wanted, found)


@pytest.mark.parametrize(
    ("machine", "wanted", "offered", "expected"),
    [
        ("x86_64", None, ("linux/arm64", "linux/amd64"), "linux/amd64"),
        ("x86_64", None, ("linux/386", "linux/amd64"), "linux/amd64"),
        ("x86_64", None, ("linux/arm64", "linux/386"), "linux/386"),
        ("x86_64", None, ("linux/amd64/v3", "linux/amd64"), "linux/amd64"),
        ("x86_64", "linux/amd64/v3", ("linux/amd64", "linux/amd64/v3"), "linux/amd64/v3"),
        ("x86_64", None, ("windows/amd64", "linux/arm64"), None),
        ("x86_64", "linux/amd64", ("linux/386",), None),
        ("x86_64", None, ("", "linux/arm64"), ""),
        ("x86_64", None, ("", "linux/amd64"), "linux/amd64"),
        ("aarch64", None, ("linux/arm/v7", "linux/arm64/v8"), "linux/arm64/v8"),
        ("armv7l", None, ("linux/arm/v6", "linux/arm/v7"), "linux/arm/v7"),
        ("armv7l", None, ("linux/arm/v6", "linux/arm64"), "linux/arm/v6"),
        ("s390x", None, ("linux/s390x",), "linux/s390x"),
        ("x86_64", None, (), None),
    ],
)
def test_the_best_of_several_is_chosen(
    monkeypatch: pytest.MonkeyPatch, machine: str, wanted: str | None, offered: tuple[str, ...], expected: str | None
) -> None:
    """Exactly what was asked for before what merely runs."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))

    assert expected == choose(offered, lambda one: one, wanted)


def test_this_machine_has_a_platform() -> None:
    """By the name that images have for it."""
    assert own_platform().startswith("linux/")
    assert "x86_64" not in own_platform()
