"""The guard: what a backend never sees."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs
import pytest

from oubliette_core import _guard
from oubliette_core.errors import InvalidSpecError, InvalidValueError, UnsupportedError
from oubliette_core.models import Capability, ContainerSpec, ExecSpec, LogSpec, Mount

HOSTILE_NAMES = [
    "../volumes/x", "../images/y", "..%2f", ".", "..", "", "--help", "-", "-v/:/h", "a b", "a/b", "a\x00", "a\n", "é",
    "x" * 256, "$(id)", None, 5, ["a"], b"a",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE_NAMES, ids=repr)
def test_container_ids_are_matched_against_a_whitelist(value: Any) -> None:
    """``../volumes/x`` as an id deletes a volume through Docker's API; ``-x`` is an option of a command-line client."""
    with pytest.raises(InvalidValueError):
        _guard.container(value)


@pytest.mark.parametrize("value", ["a", "oubliette-ab12cd-proj_x-g1", "0" * 64, "A.b_c-d"])
def test_container_ids_that_engines_make_pass(value: str) -> None:
    """Ids and names of every engine are let through unchanged."""
    assert value == _guard.container(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"env": {"": "x"}}, {"env": {"=": "x"}}, {"env": {"A=B": "x"}}, {"env": {"A": "x\x00"}},
        {"env": {"A": "x" * 2**17}},
        {"workdir": "relative"}, {"workdir": "/proc/self/fd/8"}, {"workdir": "/a/../b"}, {"workdir": "//proc/1/cwd"},
        {"workdir": "/dev/fd/3"}, {"user": "-root"}, {"user": "a b"}, {"user": "a:b:c"}, {"command": ("a\x00",)},
        {"command": ("x" * 2**17,)}, {"command": "sh -c id"}, {"memory": 0}, {"memory": True}, {"cpus": 0.0},
        {"cpus": float("nan")}, {"pids": 0}, {"network": "../x"}, {"drop_capabilities": ("cap chown",)},
        {"hostname": "a_b"}, {"hostname": "-a"}, {"labels": {"a b": "x"}}, {"labels": {"a": "x\ny"}},
        {"mounts": (Mount(source="relative", target="/x"),)}, {"mounts": (Mount(source="/x", target="x"),)},
        {"mounts": (Mount(source="/x", target="/"),)}, {"mounts": (Mount(source="/x", target="/proc/sys"),)},
        {"mounts": (Mount(source="/a/../b", target="/x"),)},
        {"mounts": (Mount(kind="volume", source="../v", target="/x"),)},
        {"mounts": (Mount(kind="tmpfs", source="/x", target="/x"),)}, {"preferred": frozenset({"speed"})},
        {"platform": "linux"}, {"platform": "Linux/AMD64"}, {"name": "a/b"},
    ],
    ids=repr,
)  # fmt: skip
def test_malformed_specifications_are_refused(changes: dict[str, Any]) -> None:
    """Nothing that an engine could misread gets as far as one."""
    with pytest.raises(InvalidValueError):
        _guard.container_spec(attrs.evolve(ContainerSpec(image="busybox"), **changes))


def test_a_secret_value_is_not_part_of_the_error() -> None:
    """The value of a variable may be a key."""
    with pytest.raises(InvalidSpecError) as caught:
        _guard.container_spec(ContainerSpec(image="busybox", env={"KEY": "s3cret\x00"}))

    assert "s3cret" not in f"{caught.value} {caught.value.value} {caught.value.hint}"


def test_the_reference_gets_its_default_tag() -> None:
    """Without a tag some engines pull every tag there is."""
    assert "busybox:latest" == _guard.container_spec(ContainerSpec(image="busybox")).image


@pytest.mark.parametrize("command", [(), ("",), "ls", ["ls"], ("a", 5)], ids=repr)
def test_an_exec_needs_a_tuple_of_words(command: Any) -> None:
    """A string would be taken apart letter by letter or by a shell."""
    with pytest.raises(InvalidSpecError):
        _guard.exec_spec(ExecSpec(command=command))


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True])
def test_a_deadline_is_a_positive_finite_number(timeout: float) -> None:
    """A deadline of infinity is no deadline; say None."""
    with pytest.raises(InvalidValueError):
        _guard.exec_spec(ExecSpec(command=("a",), timeout=timeout))


@pytest.mark.parametrize("spec", [LogSpec(tail=-1), LogSpec(since=datetime(2026, 1, 1))], ids=repr)  # noqa: DTZ001
def test_log_specifications(spec: LogSpec) -> None:
    """A negative tail and a time without a zone have no meaning."""
    with pytest.raises(InvalidSpecError):
        _guard.log_spec(spec)


def test_required_settings_are_refused_where_they_cannot_be_enforced() -> None:
    """What a user wrote is never silently dropped."""
    with pytest.raises(UnsupportedError) as caught:
        _guard.enforceable(ContainerSpec(image="x", memory=2**26), frozenset(), "thin")

    assert ("memory-limit", "thin") == (caught.value.capability, caught.value.runtime)


def test_preferred_settings_are_left_out_and_named() -> None:
    """A default that the backend lacks must not stop the user, and must not be claimed either."""
    spec = ContainerSpec(image="x", pids=10, init=True, memory=2**26, preferred=frozenset({"pids", "init"}))
    kept, left_out = _guard.enforceable(spec, frozenset({Capability.MEMORY_LIMIT, Capability.INIT}), "thin")

    assert ("pids",) == left_out
    assert (None, True, 2**26) == (kept.pids, kept.init, kept.memory)


@pytest.mark.parametrize(
    ("network", "capability"),
    [("none", "network-none"), ("host", "network-host"), ("mine", "network-named")],
)
def test_each_network_needs_its_own_capability(network: str, capability: str) -> None:
    """A backend without networks of its own must not put a container on the host's."""
    with pytest.raises(UnsupportedError) as caught:
        _guard.enforceable(ContainerSpec(image="x", network=network), frozenset(), "thin")

    assert capability == caught.value.capability
