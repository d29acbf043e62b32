"""Sizes, durations, names and references are read as people write them, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import pytest

from oubliette_core.config import forms
from oubliette_core.config.forms import Form, read_duration, read_size
from oubliette_core.models import ContainerSpec


def _read(kind: Any, raw: object) -> object:
    """Apply the forms of an annotated type."""
    value = raw
    for form in get_args(kind)[1:]:
        assert isinstance(form, Form)
        if form.read:
            value = form.read(value)
        if form.check:
            form.check(value)
    return value


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (0, 0),
        (512, 512),
        ("512", 512),
        ("512b", 512),
        ("1k", 1024),
        ("1KB", 1024),
        ("1KiB", 1024),
        ("512m", 512 * 2**20),
        ("2GiB", 2 * 2**30),
        ("2 GiB", 2 * 2**30),
        ("1.5g", 3 * 2**29),
        ("1t", 2**40),
    ],
)
def test_sizes(raw: object, size: int) -> None:
    """A size is bytes or a number with a unit; units are powers of 1024, as Docker has them."""
    assert size == read_size(raw)


@pytest.mark.parametrize(
    "raw", [-1, 1.5, True, None, "", "m", "-1m", "1x", "1mm", "1e3", "٣m", [], "9" * 50, 2**63, "1" * 39 + "t"]
)
def test_what_is_no_size(raw: object) -> None:
    """A size that is misread is a limit that does not hold."""
    with pytest.raises(ValueError, match=r"^$"):
        read_size(raw)


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (1, 1.0),
        (0.5, 0.5),
        ("90s", 90.0),
        ("10m", 600.0),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("500ms", 0.5),
        ("2d", 172800.0),
    ],
)
def test_durations(raw: object, seconds: float) -> None:
    """A duration is seconds or numbers with units."""
    assert seconds == read_duration(raw)


@pytest.mark.parametrize(
    "raw", [0, -1, True, None, "", "90", "s", "1y", "-1s", "0s", "m1", float("nan"), float("inf"), "9" * 30 + "d", [1]]
)
def test_what_is_no_duration(raw: object) -> None:
    """Without a unit a text could mean anything, and a deadline of 0 would end everything at once."""
    with pytest.raises(ValueError, match=r"^$"):
        read_duration(raw)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (forms.Name, "ml", "ml"),
        (forms.Name, "py3.11_gpu-2", "py3.11_gpu-2"),
        (forms.Name, "a" * 63, "a" * 63),
        (forms.Image, "registry:5000/x", "registry:5000/x"),
        (forms.Platform, "linux/arm64/v8", "linux/arm64/v8"),
        (forms.Registry, "docker.io", "docker.io"),
        (forms.Registry, "localhost:5000", "localhost:5000"),
        (forms.Mirror, "127.0.0.1:5555", "127.0.0.1:5555"),
        (forms.Mirror, "mirror.example.com/hub/library", "mirror.example.com/hub/library"),
        (forms.Url, "http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        (forms.AbsolutePath, "/etc/tls/key.pem", Path("/etc/tls/key.pem")),
        (forms.Argv, ["a", ""], ("a", "")),
        (forms.TypeCommand, "idle", ("idle",)),
        (forms.TypeCommand, "image", ("image",)),
        (forms.TypeCommand, ["sleep", "9"], ("sleep", "9")),
        (forms.Port, 0, 0),
        (forms.Port, 65535, 65535),
        (forms.Host, "::1", "::1"),
        (forms.ModelId, "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        (forms.VariableName, "API_KEY", "API_KEY"),
    ],
)
def test_what_is_accepted(kind: Any, raw: object, value: object) -> None:
    """Each form accepts what its field is for."""
    assert value == _read(kind, raw)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (forms.Name, "ML"),
        (forms.Name, "-ml"),
        (forms.Name, "a" * 64),
        (forms.Name, "__class__"),
        (forms.Name, "../x"),
        (forms.Name, "a\n"),
        (forms.Name, 5),
        (forms.Image, "Upper/Case"),
        (forms.Image, "https://x/y"),
        (forms.Image, ["x"]),
        (forms.Platform, "arm"),
        (forms.Platform, 64),
        (forms.Registry, "docker"),
        (forms.Registry, "docker.io/library"),
        (forms.Registry, ""),
        (forms.Mirror, "mirror"),
        (forms.Mirror, "http://mirror.example.com"),
        (forms.Mirror, "mirror.example.com/"),
        (forms.Url, "ftp://x/y"),
        (forms.Url, "http://"),
        (forms.Url, "http://user:pass@example.com"),
        (forms.Url, "http://[x"),
        (forms.Url, "http://a b"),
        (forms.AbsolutePath, "key.pem"),
        (forms.AbsolutePath, "/a\0"),
        (forms.Argv, []),
        (forms.Argv, [""]),
        (forms.Argv, "ls -l"),
        (forms.Argv, ["ls", 5]),
        (forms.TypeCommand, "sleep 9"),
        (forms.TypeCommand, []),
        (forms.Port, 65536),
        (forms.Port, True),
        (forms.Port, "80"),
        (forms.Count, 0),
        (forms.Host, "a b"),
        (forms.Host, ""),
        (forms.ModelId, ""),
        (forms.VariableName, "sk-ant-x"),
    ],
)
def test_what_is_refused(kind: Any, raw: object) -> None:
    """Each form refuses what would fail, or do harm, where the value is used."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the converter's
        _read(kind, raw)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("memory", 4 * 2**20, 1024),
        ("cpus", 0.5, 0.0),
        ("pids", 100, 0),
        ("user", "1000:1000", "a b"),
        ("network", "none", "a/b"),
        ("drop_capabilities", ("ALL",), ("cap_chown",)),
        ("env", {"TZ": "UTC"}, {"A=B": "x"}),
    ],
)
def test_container_settings_are_judged_by_the_guard(field: str, good: object, bad: object) -> None:
    """What the configuration accepts, the guard before every runtime lets through: they cannot disagree."""
    kind = Annotated[Any, forms.container_setting(field)]

    assert good == _read(kind, good)
    assert field in {name.name for name in ContainerSpec.__attrs_attrs__}
    with pytest.raises(ValueError, match=r"."):
        _read(kind, bad)
