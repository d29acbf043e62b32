"""Images are made without an engine, the same each time, and engines and registries take them for real."""

import gzip
import http.client
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from oubliette_core.testing.images import (
    BusyboxNotFoundError,
    File,
    Format,
    Image,
    Index,
    applets_of,
    build_image,
    busybox_image,
    busybox_layer,
    docker_archive,
    files_layer,
    find_busybox,
    random_layer,
)
from oubliette_core.testing.upload import PushError, push
from tests.engine import Engine
from tests.engine.dockerhttp import docker_connection
from tests.harness import raw
from tests.images import ImageMaker


def members(image: Image, layer: int = 0) -> dict[str, tarfile.TarInfo]:
    """The entries of a layer by name."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(image.layers[layer].data))) as archive:
        return {entry.name: entry for entry in archive}


def test_the_same_arguments_give_the_same_image(busybox: Path) -> None:
    """A digest is a fact about what went in, on any day and from any process."""
    first, second = (
        busybox_image(busybox, files={"/a": "1"}, layers=[random_layer(0.1, "x")], labels={"v": "1"}) for _ in range(2)
    )

    assert first == second
    assert first.digest == second.digest
    assert busybox_image(busybox, files={"/a": "2"}).digest != busybox_image(busybox, files={"/a": "1"}).digest


def test_the_configuration_says_what_was_asked_for() -> None:
    """Every option ends where engines look for it, and options that were not given are absent."""
    image = build_image(
        files_layer({"/a": "b"}),
        command=["c"],
        entrypoint=["e"],
        env={"K": "v"},
        user="u",
        workdir="/w",
        labels={"l": "1"},
        stop_signal="SIGINT",
        platform="linux/arm/v7",
        created="2026-01-02T03:04:05Z",
    )
    config = json.loads(image.config)

    expected = {
        "Cmd": ["c"],
        "Entrypoint": ["e"],
        "Env": ["K=v"],
        "User": "u",
        "WorkingDir": "/w",
        "Labels": {"l": "1"},
        "StopSignal": "SIGINT",
    }
    assert expected == config["config"]
    platform = (config["os"], config["architecture"], config["variant"], config["created"])
    assert ("linux", "arm", "v7", "2026-01-02T03:04:05Z") == platform
    assert {} == json.loads(build_image().config)["config"]


def test_layers_hold_what_was_named() -> None:
    """Files, directories and links, with their modes and owners."""
    layer = files_layer(
        {
            "/dir": File(mode=0o1777),
            "/dir/text": "text",
            "/dir/tool": File(content=b"\x00", mode=0o755, uid=7, gid=8),
            "/dir/link": File(link="tool"),
        }
    )
    entries = members(build_image(layer))

    assert ["dir", "dir/text", "dir/tool", "dir/link"] == list(entries)
    assert (True, 0o1777) == (entries["dir"].isdir(), entries["dir"].mode)
    assert (4, 0o644) == (entries["dir/text"].size, entries["dir/text"].mode)
    tool = entries["dir/tool"]
    assert (1, 0o755, 7, 8) == (tool.size, tool.mode, tool.uid, tool.gid)
    assert (True, "tool") == (entries["dir/link"].issym(), entries["dir/link"].linkname)


def test_random_layers_have_their_size_and_differ() -> None:
    """They take as many bytes on the wire as they were asked to, and share nothing."""
    one, other = random_layer(2, "one"), random_layer(2, "other")

    assert 2 * 1024 * 1024 <= len(one.data) < 2.1 * 1024 * 1024
    assert one.digest != other.digest
    assert one == random_layer(2, "one")


def test_busybox_has_all_its_commands_or_those_named(busybox: Path) -> None:
    """The list of commands is read from the file, and can be cut down to a shell alone."""
    binary = busybox.read_bytes()
    everything = members(build_image(busybox_layer(binary)))
    shell = members(build_image(busybox_layer(binary, ["sh"])))

    assert {"sh", "cat", "sleep", "ps", "["} <= set(applets_of(binary))
    assert {"bin/sh", "bin/cat", "usr/bin/env", "tmp", "etc/passwd"} <= set(everything)
    assert {"bin/busybox", "bin/sh"} == {name for name in shell if name.startswith("bin/")}


def test_an_index_names_the_platforms_of_its_members(busybox: Path) -> None:
    """One name, an image for each platform."""
    parts = (busybox_image(busybox, platform="linux/amd64"), busybox_image(busybox, platform="linux/arm64/v8"))
    entries = json.loads(Index(parts, "oci").manifest)["manifests"]

    assert [part.digest for part in parts] == [entry["digest"] for entry in entries]
    assert [len(part.manifest) for part in parts] == [entry["size"] for entry in entries]
    assert {"os": "linux", "architecture": "arm64", "variant": "v8"} == entries[1]["platform"]


def test_busybox_must_be_static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busybox: Path) -> None:
    """One that needs libraries would not start in an image that has none; the error says how to get another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OUBLIETTE_TEST_BUSYBOX", raising=False)
    shutil.copy(sys.executable, tmp_path / "busybox")
    with pytest.raises(BusyboxNotFoundError, match="apt-get install busybox-static"):
        find_busybox()

    assert busybox == find_busybox(busybox)
    monkeypatch.setenv("OUBLIETTE_TEST_BUSYBOX", str(busybox))
    assert busybox == find_busybox()


def test_a_registry_that_refuses_is_an_error(registry: str) -> None:
    """The message has the registry's own words."""
    with pytest.raises(PushError, match=r"NAME_INVALID|404"):
        push(build_image(), registry, "UPPER")


@pytest.mark.parametrize("format_", ["docker", "oci"])
def test_engines_run_them(engine: Engine, images: ImageMaker, format_: Format) -> None:
    """A real registry stores it under the digest that was foretold, and a real engine pulls and runs it."""
    pushed = images.push(files={"/etc/version": "1\n"}, user="agent", env={"K": "v"}, format=format_)
    assert "" == raw.pull(engine, pushed.reference)
    output = raw.run(engine, pushed.reference, "sh", "-c", "cat /etc/version; id -un; echo $HOME $K; touch /tmp/x ~/y")
    digests = raw.call(engine, "GET", f"/images/{pushed.reference}/json")["RepoDigests"]

    assert "1\nagent\n/home/agent v\n" == output
    assert [f"{engine.registry}/{pushed.repository}@{pushed.digest}"] == digests


def test_the_default_command_runs_until_it_is_told_to_stop(engine: Engine, images: ImageMaker) -> None:
    """Without a command of its own an image idles, and ends at once on the stop signal, with and without an init."""
    pushed = images.push()
    assert "" == raw.pull(engine, pushed.reference)
    container = raw.call(engine, "POST", "/containers/create", {"Image": pushed.reference})["Id"]
    try:
        raw.call(engine, "POST", f"/containers/{container}/start")
        raw.call(engine, "POST", f"/containers/{container}/stop?t=30")
        state = raw.call(engine, "GET", f"/containers/{container}/json")["State"]
    finally:
        raw.call(engine, "DELETE", f"/containers/{container}?force=1")

    assert ("exited", 0) == (state["Status"], state["ExitCode"])


def test_a_tag_can_be_pushed_again(engine: Engine, images: ImageMaker) -> None:
    """A second push under the same tag is what the next pull gets."""
    first = images.push(files={"/etc/version": "1"})
    assert "" == raw.pull(engine, first.reference)
    second = images.push(files={"/etc/version": "2"})
    assert "" == raw.pull(engine, second.reference)

    assert first.reference == second.reference
    assert "2" == raw.run(engine, second.reference, "cat", "/etc/version")


@pytest.mark.parametrize("format_", ["docker", "oci"])
def test_engines_choose_from_an_index(engine: Engine, images: ImageMaker, format_: Format) -> None:
    """The engine takes the member for its own platform."""
    own = images.make(files={"/etc/version": "own"}, format=format_)
    other = images.make(files={"/etc/version": "other"}, format=format_, platform="linux/s390x")
    pushed = images.push_made(Index((other, own), format_))

    assert "" == raw.pull(engine, pushed.reference)
    assert "own" == raw.run(engine, pushed.reference, "cat", "/etc/version")


def test_engines_load_archives(engine: Engine, images: ImageMaker) -> None:
    """`docker load` takes the archive and gives the image the names it was saved under."""
    name = "oubliette-test-archive:loaded"
    connection = docker_connection(engine.docker_host, timeout=60)
    archive = docker_archive({name: images.make(files={"/etc/version": "loaded"})})
    connection.request("POST", "/images/load", archive, {"Content-Type": "application/x-tar"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert http.client.OK == answer.status, body

    assert "loaded" == raw.run(engine, name, "cat", "/etc/version")
    raw.call(engine, "DELETE", f"/images/{name}")
