"""The JSON of every version gives the same values, and what cannot be read is an error, never a guess."""

import copy
import datetime as dt
import json
from typing import Any

import pytest

from oubliette_apple import _read
from oubliette_core.errors import RuntimeOperationError
from oubliette_core.models import ContainerInfo, ContainerStatus, Mount

_CONFIGURATION: dict[str, Any] = {
    "id": "box-1",
    "image": {"reference": "docker.io/library/alpine:3.20", "descriptor": {"digest": "sha256:01", "size": 9218}},
    "labels": {"owner": "a%3Db%25"},
    "mounts": [
        {"type": {"virtiofs": {}}, "source": "/Users/me/job", "destination": "/job", "options": ["ro"]},
        {"type": {"volume": {"name": "cache"}}, "source": "/v.img", "destination": "/cache", "options": []},
        {"type": {"block": {}}, "source": "/dev/x", "destination": "/x", "options": []},
    ],
}
_NETWORK = {"network": "default", "hostname": "box-1", "ipv4Address": "192.168.64.3/24"}
_STARTED = dt.datetime(2026, 8, 15, 11, 23, 33, tzinfo=dt.UTC)


def new(**status: Any) -> dict[str, Any]:
    """An element as version 1.0 and later print it."""
    given = {"state": "running", "startedDate": "2026-08-15T11:23:33Z", "networks": [_NETWORK], **status}
    configuration = {**_CONFIGURATION, "creationDate": "2026-08-15T11:00:00Z"}
    return copy.deepcopy({"id": "box-1", "configuration": configuration, "status": given})


def old(**top: Any) -> dict[str, Any]:
    """The same element as versions before 1.0 print it."""
    given = {"status": "running", "startedDate": _STARTED.timestamp() - 978307200, "networks": [_NETWORK], **top}
    return copy.deepcopy({**given, "configuration": _CONFIGURATION})


@pytest.mark.parametrize(
    ("item", "created"), [(new(), dt.datetime(2026, 8, 15, 11, 0, tzinfo=dt.UTC)), (old(), None)], ids=["new", "old"]
)
def test_container(item: dict[str, Any], created: dt.datetime | None) -> None:
    """State, dates and address are found in either shape."""
    expected = ContainerInfo(
        id="box-1",
        name="box-1",
        image="docker.io/library/alpine:3.20",
        image_id="sha256:01",
        status=ContainerStatus.RUNNING,
        labels={"owner": "a=b%"},
        created_at=created,
        started_at=_STARTED,
        ip_address="192.168.64.3",
        mounts=(
            Mount(kind="bind", source="/Users/me/job", target="/job", read_only=True),
            Mount(kind="volume", source="cache", target="/cache"),
        ),
    )

    assert expected == _read.container(item)


@pytest.mark.parametrize("make", [new, lambda **given: old(status=given.pop("state"), **given)])
@pytest.mark.parametrize(
    ("state", "started", "status"),
    [
        ("running", None, ContainerStatus.RUNNING),
        ("stopping", None, ContainerStatus.STOPPING),
        ("stopped", None, ContainerStatus.CREATED),
        ("stopped", 1.5, ContainerStatus.EXITED),
        ("hibernating", None, ContainerStatus.UNKNOWN),
        ("unknown", None, ContainerStatus.UNKNOWN),
    ],
)
def test_states(make: Any, state: str, started: float | None, status: ContainerStatus) -> None:
    """What ran and ended is told from what never ran; a state that nobody knows is unknown."""
    assert status == _read.container(make(state=state, startedDate=started)).status


def test_containers_of_older_versions() -> None:
    """A container made before there were creation dates has none; the address had another name."""
    made = new(networks=[{"address": "10.0.0.2/24"}], futureKey={"a": [1]})
    made["configuration"]["creationDate"] = "1970-01-01T00:00:00Z"
    seen = _read.container(made)

    assert (None, "10.0.0.2") == (seen.created_at, seen.ip_address)


@pytest.mark.parametrize(
    "text", [b"", b"Error: no JSON", b"{}", b"[1]", b'[{"id"', b"\xff\xfe"], ids=lambda text: repr(text)[:12]
)
def test_what_is_no_document(text: bytes) -> None:
    """What is no list of objects is an error that names the call."""
    with pytest.raises(RuntimeOperationError, match="container list printed what cannot be read"):
        _read.document(text, "list")


def test_garbage_after_the_document() -> None:
    """What follows the document is ignored."""
    assert [{"a": 1}] == _read.document(b'\n[{"a":1}]\nwarning: be careful\n', "list")


@pytest.mark.parametrize("change", [{"configuration": {}}, {"status": None}, {"status": {"networks": []}}])
def test_what_is_no_container(change: dict[str, Any]) -> None:
    """An element without what every version has is an error."""
    with pytest.raises(RuntimeOperationError, match="printed what cannot be read"):
        _read.container({**new(), **change})


_VARIANT = {
    "size": 4091234,
    "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
    "config": {"created": "2024-09-06T12:05:36Z", "config": {"Cmd": ["/bin/sh"], "Labels": {"a": "b"}}},
}


@pytest.mark.parametrize("is_new", [True, False])
def test_image(*, is_new: bool) -> None:
    """Images of both shapes give the same; what a registry knows them by is the manifest's digest where it is said."""
    name = "docker.io/library/alpine:3.20"
    if is_new:
        configuration = {"name": name, "descriptor": {"digest": "sha256:01"}}
        item = {"configuration": configuration, "variants": [{**_VARIANT, "digest": "sha256:02"}]}
    else:
        item = {"name": name, "index": {"digest": "sha256:01"}, "variants": [_VARIANT]}
    seen = _read.image(item, "linux/arm64")

    assert seen
    assert ("sha256:01", (name, "alpine:3.20")) == (seen.id, seen.references)
    assert (f"docker.io/library/alpine@sha256:0{2 if is_new else 1}",) == seen.digests
    assert ("linux/arm64/v8", 4091234, {"a": "b"}) == (seen.platform, seen.size, seen.labels)
    assert _read.image(item, "linux/amd64") is None
    assert {"Cmd": ["/bin/sh"], "Labels": {"a": "b"}} == _read.variant_config(item, "linux/arm64")


@pytest.mark.parametrize(
    ("platform", "wanted", "fits"),
    [
        ("linux/arm64", "linux/arm64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/arm64", "linux/arm", False),
        ("linux/amd64", "linux/arm64", False),
    ],
)
def test_fits(platform: str, wanted: str, *, fits: bool) -> None:
    """The variant counts only where one was named."""
    assert fits == _read.fits(platform, wanted)


def test_names() -> None:
    """Lists of both shapes give the reference and all digests."""
    old_line = {"reference": "r:1", "descriptor": {"digest": "sha256:01"}}
    new_line = {"configuration": {"name": "r:1", "descriptor": {"digest": "sha256:01"}}, "variants": [{"digest": "x"}]}

    assert ("r:1", frozenset({"sha256:01"})) == _read.names(old_line)
    assert ("r:1", frozenset({"sha256:01", "x"})) == _read.names(json.loads(json.dumps(new_line)))
