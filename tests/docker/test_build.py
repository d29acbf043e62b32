"""A build succeeds only if the engine has built what the tag now names."""

from __future__ import annotations

import re
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.errors import ImageBuildError
from oubliette_core.models import BuildSpec, Cancel, ProgressEvent
from oubliette_core.runtime import Runtime
from oubliette_docker._build import _context
from tests.docker.conftest import plain, runtime_on
from tests.docker.scripted import CHUNKED, ScriptedEngine, chunk, reply


@pytest.fixture
def tag(runtime: Runtime) -> Iterator[str]:
    """A reference that is removed when the test ends."""
    reference = f"oubliette-test-build-{time.monotonic_ns()}:latest"
    yield reference
    runtime.remove_image(reference)


def dockerfile(directory: Path, *lines: str) -> Path:
    """Write a Dockerfile, and return its directory."""
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return directory


def test_a_build_makes_the_image_of_its_directory(runtime: Runtime, image: str, tag: str, tmp_path: Path) -> None:
    """Arguments, labels, a stage and another Dockerfile are passed on; the end is told once."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Other").write_text(
        f"FROM {image} AS first\nARG WORD\nRUN echo $WORD > /word\nCOPY data /data\nLABEL own=1\n"
        "FROM scratch AS second\n"
    )
    (tmp_path / "data").write_text("content")
    events: list[ProgressEvent] = []
    spec = BuildSpec(
        context=tmp_path,
        dockerfile="sub/Other",
        tag=tag,
        build_args={"WORD": "said"},
        labels={"added": "a b"},
        target="first",
        no_cache=True,
    )
    info = runtime.build(spec, progress=events.append)

    assert {"own": "1", "added": "a b"} == {key: info.labels[key] for key in ("own", "added")}
    assert [tag] == [plain(name) for name in info.references]
    assert info == runtime.inspect_image(tag)
    assert any("COPY data /data" in event.detail for event in events)
    assert [("", "done")] == [(event.layer, event.phase) for event in events if event.phase == "done"]


def test_a_step_that_fails_is_an_error_with_its_output(runtime: Runtime, image: str, tag: str, tmp_path: Path) -> None:
    """What it printed last is what one has to read; no tag appears."""
    context = dockerfile(tmp_path / "c", f"FROM {image}", "RUN echo before; seq 1 9000; echo the reason; exit 7")
    with pytest.raises(ImageBuildError) as caught:
        runtime.build(BuildSpec(context=context, tag=tag))

    assert re.search("(code|status):? 7", caught.value.message)
    assert "the reason" in caught.value.output
    assert len(caught.value.output) <= 16 * 1024
    assert ("docker", tag) == (caught.value.runtime, caught.value.subject)
    assert not runtime.exists(tag)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["FORM scratch"], "unknown instruction|no FROM statement"),
        (["FROM 127.0.0.1:9/none:latest"], "refused|manifest|pull access"),
        (["FROM scratch", "COPY none /"], "none"),
    ],
)
def test_a_dockerfile_that_cannot_work_is_an_error(
    runtime: Runtime, tag: str, tmp_path: Path, lines: list[str], words: str
) -> None:
    """Whether the engine says so in a status or in the stream."""
    with pytest.raises(ImageBuildError, match=words):
        runtime.build(BuildSpec(context=dockerfile(tmp_path / "c", *lines), tag=tag))


def test_a_missing_dockerfile_is_told_before_anything_is_sent(runtime: Runtime, tag: str, tmp_path: Path) -> None:
    """With the path that was looked at."""
    with pytest.raises(ImageBuildError, match=str(tmp_path / "Dockerfile")):
        runtime.build(BuildSpec(context=tmp_path, tag=tag))


@pytest.mark.parametrize("file", [".dockerignore", "Dockerfile.dockerignore"])
def test_what_is_ignored_is_not_sent(tmp_path: Path, file: str) -> None:
    """Secrets and caches stay at home; links are sent as links."""
    context = dockerfile(tmp_path / "c", "FROM scratch")
    (context / "secret.env").write_text("s3cret")
    (context / "kept").write_text("k")
    (context / "link").symlink_to("/etc/passwd")
    (context / "cache").mkdir()
    (context / "cache" / "big").write_text("b")
    (context / file).write_text("# comment\n\n*.env\ncache\n")
    with _context(BuildSpec(context=context, tag="x:latest")) as packed, tarfile.open(fileobj=packed) as tar:
        members = {member.name: member for member in tar}

    assert {"Dockerfile", "kept", "link"} <= set(members)
    assert not {"secret.env", "cache", "cache/big"} & set(members)
    assert members["link"].issym()


def test_cancelling_ends_a_build(runtime: Runtime, image: str, tag: str, tmp_path: Path) -> None:
    """A step that hangs does not hold us; what it printed is told."""
    context = dockerfile(tmp_path / "c", f"FROM {image}", "RUN echo begun; sleep 300")
    cancel = Cancel()
    began: list[float] = []

    def stop(event: ProgressEvent) -> None:
        if event.detail == "begun":
            began.append(time.monotonic())
            threading.Thread(target=cancel.cancel).start()

    with pytest.raises(ImageBuildError, match="cancelled") as caught:
        runtime.build(BuildSpec(context=context, tag=tag), progress=stop, cancel=cancel)

    assert time.monotonic() - began[0] < 2
    assert "begun" in caught.value.output


def line(text: str) -> bytes:
    """Put one message of the engine's together."""
    return chunk(text.encode() + b"\r\n")


@pytest.mark.parametrize(
    ("stream", "local"),
    [
        pytest.param(line('{"stream":"Step 1/1"}'), "b", id="ends early"),
        pytest.param(line('{"aux":{"ID":"sha256:aaaa"}}'), "b", id="tag names another image"),
        pytest.param(line('{"stream":"Successfully built aaaa"}'), "b", id="the same, without aux"),
        pytest.param(line('{"error":"only the old key"}') + line('{"aux":{"ID":"sha256:bbbb"}}'), "b", id="error"),
        pytest.param(line('{"aux":{"ID":"sha256:bbbb"}}'), "", id="no image"),
    ],
)
def test_an_engine_that_did_not_finish_is_not_believed(tmp_path: Path, stream: bytes, local: str) -> None:
    """An older image under the tag is not the result of this build."""
    context = dockerfile(tmp_path / "c", "FROM scratch")

    def script(connection: socket.socket, head: bytes) -> bool:
        if b"/build" in head:
            connection.sendall(CHUNKED + stream + chunk(b""))
            return False
        found = reply(b'{"Id":"sha256:' + local.encode() * 64 + b'"}')
        connection.sendall(found if local else reply(b'{"message":"No such image"}', "404 Not Found"))
        return True

    with (
        ScriptedEngine(tmp_path / "engine.sock", script) as engine,
        runtime_on(engine.endpoint.url) as runtime,
        pytest.raises(ImageBuildError),
    ):
        runtime._call("build", spec=BuildSpec(context=context, tag="x:latest"), progress=None, cancel=None)
