"""Manifests, indexes and configurations: the well-formed are understood, all others refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oubliette_core.testing.images import build_image, files_layer
from oubliette_embedded.images._documents import Index, Manifest, parse_image, parse_manifest
from oubliette_embedded.images._failures import Failure

DIGEST = f"sha256:{'a' * 64}"
DESCRIPTOR: dict[str, Any] = {"mediaType": "x", "digest": DIGEST, "size": 1}
NO_DIGESTS = (
    None,
    5,
    "",
    "sha256:",
    "sha256:../../etc",
    DIGEST.upper(),
    f"{DIGEST}\n",
    f"md5:{'a' * 32}",
    f"{DIGEST}a",
)
NO_SIZES: tuple[object, ...] = (None, -1, 1.5, "1", True, 1 << 60, [])
NO_SETTINGS: dict[str, tuple[object, ...]] = {
    "Env": ("A=1", [1], {"A": "1"}, ["A=\0"], ["A=\ud800"]),
    "Cmd": ("sh", [None], {}, [["sh"]]),
    "Entrypoint": ("sh", [5]),
    "User": (5, ["root"], "a\0b"),
    "WorkingDir": (5, {}, "/\ud800"),
    "Labels": ([1], {"a": 5}, {"a": None}, {"\0": "a"}, "x"),
    "Volumes": (["/a"], "x"),
}


def manifest(**changes: Any) -> bytes:
    """Write a manifest."""
    return json.dumps({"schemaVersion": 2, "config": DESCRIPTOR, "layers": [DESCRIPTOR], **changes}).encode()


def settings(**changes: Any) -> bytes:
    """Write an image configuration."""
    return json.dumps(
        {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"diff_ids": []}, **changes}
    ).encode()


def test_a_manifest_names_its_parts() -> None:
    """Of either kind."""
    image = build_image(files_layer({"/a": "a"}), platform="linux/arm/v7")
    found = parse_manifest(image.manifest)
    index = parse_manifest(
        json.dumps({"manifests": [{**DESCRIPTOR, "platform": {"os": "linux", "architecture": "arm"}}]}).encode()
    )

    assert isinstance(found, Manifest)
    assert (image.image_id, [image.layers[0].digest]) == (found.config.digest, [one.digest for one in found.layers])
    assert isinstance(index, Index)
    assert "linux/arm" == index.manifests[0].platform
    assert "linux/arm/v7" == parse_image(image.config, 1).platform


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"5", b"null", b"{}", b'"x"', b"<html>", b"\xff", b'{"a":', b"[" * 10_000, b"9" * 5000),
        manifest(manifests=[]),
        json.dumps({"manifests": [], "layers": []}).encode(),
        manifest(layers=None),
        manifest(layers={}),
        manifest(layers=[5]),
        manifest(layers=[DESCRIPTOR] * 501),
        manifest(config=None),
        manifest(config=[]),
        json.dumps({"manifests": [DESCRIPTOR] * 1001}).encode(),
        *(manifest(config={**DESCRIPTOR, "digest": digest}) for digest in NO_DIGESTS),
        *(manifest(config={**DESCRIPTOR, "size": size}) for size in NO_SIZES),
        manifest(config={**DESCRIPTOR, "mediaType": 5}),
        manifest(config={**DESCRIPTOR, "annotations": {"a": 5}}),
        manifest(config={**DESCRIPTOR, "annotations": "x"}),
        manifest(config={**DESCRIPTOR, "platform": {"os": "../..", "architecture": "x"}}),
        manifest(config={**DESCRIPTOR, "platform": {"os": ["linux"], "architecture": "x"}}),
    ],
)
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    """As corrupt, whoever sent it."""
    with pytest.raises(Failure) as failed:
        parse_manifest(data)

    assert "corrupt" == failed.value.reason


def test_docker_s_first_format_is_named() -> None:
    """It has not been written for years, and cannot be verified."""
    with pytest.raises(Failure, match="first format") as failed:
        parse_manifest(b'{"schemaVersion": 1, "fsLayers": []}')

    assert "other" == failed.value.reason


@pytest.mark.parametrize(
    "data",
    [
        settings(rootfs={"diff_ids": ["x"]}),
        settings(rootfs={"diff_ids": [DIGEST] * 501}),
        settings(os="a/b"),
        settings(config=[1]),
        *(settings(config={name: value}) for name, values in NO_SETTINGS.items() for value in values),
        settings(config={"StopSignal": 15}),
    ],
)
def test_a_configuration_that_is_none_is_refused(data: bytes) -> None:
    """Before anything is run by it."""
    with pytest.raises(Failure) as failed:
        parse_image(data)

    assert "corrupt" == failed.value.reason


@pytest.mark.parametrize("data", [b"{}", settings(rootfs=None), settings(rootfs=[])])
def test_something_that_is_no_image_is_named(data: bytes) -> None:
    """Registries have charts and signatures, too."""
    with pytest.raises(Failure, match="no container image") as failed:
        parse_image(data)

    assert "other" == failed.value.reason


def test_the_layers_of_manifest_and_configuration_are_as_many() -> None:
    """Else one of them is another image's."""
    with pytest.raises(Failure, match="names 1 layers, its manifest 2"):
        parse_image(settings(rootfs={"diff_ids": [DIGEST]}), 2)


def test_what_is_left_out_means_nothing() -> None:
    """Null, an empty list and a missing key are the same; a variable without a value is none."""
    empty = parse_image(settings())
    given = dict.fromkeys(("Env", "Cmd", "Entrypoint", "User", "Labels", "Volumes", "StopSignal"))

    assert empty == parse_image(settings(config=given)) == parse_image(settings(config=None, created="yesterday"))
    assert (None, None, {}) == (empty.config.command, empty.config.entrypoint, dict(empty.config.env))
    assert {"A": "1=2", "B": ""} == dict(parse_image(settings(config={"Env": ["A=1=2", "B=", "C", "=x"]})).config.env)
    assert parse_image(settings(config={"Cmd": []})).config.command is None
