"""A pull succeeds only if it did: every failure has its reason, and what was there before stays."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import (
    ImageNotFoundError,
    ImagePullError,
    InUseError,
    OperationTimeoutError,
    OublietteError,
    RuntimeLostError,
)
from oubliette_core.models import Cancel, ProgressEvent
from oubliette_core.reference import Reference
from oubliette_core.runtime import Runtime
from oubliette_core.testing.faults import Corrupt, Fault, Hangup, Junk, Slow, Stalled, Status, Truncated
from oubliette_core.testing.images import Image, Index, busybox_image, random_layer
from oubliette_core.testing.registry import BasicAuth, FaultRegistry
from oubliette_docker._connection import Connection
from oubliette_docker._credentials import Credentials
from oubliette_docker._endpoint import Surroundings
from oubliette_docker._errors import EngineError
from oubliette_docker._images import Images, engine_reference
from tests.docker.conftest import MakeContainer
from tests.docker.scripted import CHUNKED, PING, ScriptedEngine, chunk, reply
from tests.images import ImageMaker

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def images_of(connection: Connection, tmp_path: Path) -> Callable[..., Images]:
    """Makes `Images` on the engine, with the docker CLI's configuration in ``tmp_path``."""
    credentials = Credentials(Surroundings(environ={}, home=tmp_path))
    return lambda **options: Images(connection, credentials, **options)


@pytest.fixture
def pulled(connection: Connection) -> Iterator[Callable[[str], str]]:
    """Notes references whose repositories leave nothing on the engine when the test ends, named or not."""
    noted: list[str] = []

    def note(reference: str) -> str:
        noted.append(reference)
        return reference

    yield note
    repositories = {Reference.parse(reference).name for reference in noted}
    for local in connection.request("GET", "/images/json").json():
        names = (*(local["RepoTags"] or ()), *(local["RepoDigests"] or ()))
        ours = [name for name in names if name.partition("@")[0].rpartition(":")[0] in repositories]
        ours += [name for name in names if name.partition("@")[0] in repositories]
        for name in ours:
            with contextlib.suppress(EngineError):  # the last name took the image with it
                connection.request("DELETE", f"/images/{name}")


def fresh(busybox: Path, name: str, **settings: Any) -> Image:
    """Make an image with a layer that the engine does not have."""
    return busybox_image(busybox, layers=[random_layer(0.3, seed=f"{name}-{time.monotonic_ns()}")], **settings)


def failure(images: Images, reference: str, **options: Any) -> ImagePullError:
    """Return the error that a pull ends with."""
    given = {"progress": None, "cancel": None, "timeout": None, "platform": None, **options}
    with pytest.raises(ImagePullError) as caught:
        images.pull(reference, given.pop("platform"), **given)
    return caught.value


# -- What succeeds ----------------------------------------------------------------------------------------------------


def test_a_pulled_image_is_there_at_once(runtime: Runtime, images: ImageMaker) -> None:
    """Pull, exists and inspect agree, and the registry's digest is told."""
    pushed = images.push(labels={"version": "1"})
    events: list[ProgressEvent] = []
    before = runtime.exists(pushed.reference)
    info = runtime.pull(pushed.reference, progress=events.append)

    assert (False, True) == (before, runtime.exists(pushed.reference))
    assert runtime.inspect_image(pushed.reference) == info
    assert (pushed.reference,) == info.references
    assert (f"{pushed.reference.removesuffix(':latest')}@{pushed.digest}",) == info.digests
    assert "1" == info.labels["version"]
    assert info.size > 1_000_000
    assert ["resolving", "done"] == [event.phase for event in events if not event.layer]


def test_a_pull_without_tag_takes_latest_and_nothing_else(runtime: Runtime, images: ImageMaker) -> None:
    """Without a tag engines have pulled every tag there is."""
    images.push(tag="old", labels={"v": "old"})
    pushed = images.push(tag="latest", labels={"v": "new"})
    info = runtime.pull(pushed.reference.removesuffix(":latest"))

    assert (pushed.reference,) == info.references
    assert not runtime.exists(pushed.reference.replace(":latest", ":old"))


def test_a_digest_wins_over_a_tag(runtime: Runtime, images: ImageMaker, pulled: Callable[[str], str]) -> None:
    """`name:tag@digest` is the image of the digest, whatever the tag says."""
    first = images.push(labels={"v": "1"})
    images.push(labels={"v": "2"})
    reference = pulled(f"{first.reference}@{first.digest}")
    info = runtime.pull(reference)

    assert ("1", ()) == (info.labels["v"], info.references)
    assert runtime.exists(reference)
    assert runtime.exists(f"{first.reference.removesuffix(':latest')}@{first.digest}")


def test_a_pull_of_what_is_there_changes_nothing(runtime: Runtime, images: ImageMaker) -> None:
    """The registry is asked, and the same image stays."""
    reference = images.push().reference

    assert runtime.pull(reference) == runtime.pull(reference)


def test_a_newer_image_takes_the_name(runtime: Runtime, images: ImageMaker) -> None:
    """The old one stays for the containers that run from it, without a name."""
    old = runtime.pull(images.push(labels={"v": "1"}).reference)
    new = runtime.pull(images.push(labels={"v": "2"}).reference)

    assert ("2", ()) == (new.labels["v"], runtime.inspect_image(old.id).references)
    runtime.remove_image(old.id)


def test_progress_never_goes_back_and_ends_once(runtime: Runtime, images: ImageMaker, busybox: Path) -> None:
    """What a progress bar shows per layer only grows, and one event says that all is done."""
    pushed = images.push_made(fresh(busybox, "progress"))
    events: list[ProgressEvent] = []
    runtime.pull(pushed.reference, progress=events.append)
    seen: dict[tuple[str, str], int] = {}
    for event in events:
        assert event.current >= seen.get((event.layer, event.phase), 0)
        seen[event.layer, event.phase] = event.current

    assert {pushed.reference} == {event.image for event in events}
    assert 1 == sum(event.phase == "done" and not event.layer for event in events)
    assert ("", "done") == (events[-1].layer, events[-1].phase)
    assert {"resolving", "done"} < {event.phase for event in events}


def test_the_login_of_the_docker_cli_is_used(
    images_of: Callable[..., Images], tmp_path: Path, busybox: Path, pulled: Callable[[str], str]
) -> None:
    """A registry that asks for a password gets it; without it, the error says what it was asked with."""
    with FaultRegistry(auth=BasicAuth(username="me", password="s3cret")) as registry:
        reference = pulled(registry.add(busybox_image(busybox), "team/box"))
        refused = failure(images_of(), reference)
        (tmp_path / ".docker").mkdir()
        entry = {"auth": base64.b64encode(b"me:s3cret").decode()}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.address: entry}}))
        info = images_of().pull(reference, None, progress=None, cancel=None, timeout=None)

    assert ("unauthorized", False) == (refused.reason, refused.retryable)
    assert "no login" in refused.hint
    assert reference in info.references


# -- What a registry can do -------------------------------------------------------------------------------------------

FAULTS: list[tuple[str, Callable[[], Fault], str, bool]] = [
    ("401", lambda: Status(401), "unauthorized", False),
    ("403", lambda: Status(403), "unauthorized", False),
    ("404", lambda: Status(404), "not_found", False),
    ("429", lambda: Status(429, retry_after=7), "rate_limited", True),
    ("500", lambda: Status(500), "unreachable", True),
    ("503", lambda: Status(503), "unreachable", True),
    ("hangup", Hangup, "unreachable", True),
    ("junk", Junk, "unreachable", True),
    ("layer-404", lambda: Status(404, on="layer"), "not_found", False),
    ("layer-429", lambda: Status(429, on="layer"), "rate_limited", True),
    ("layer-corrupt", Corrupt, "corrupt", False),
    ("layer-truncated", Truncated, "corrupt", True),
    ("layer-401", lambda: Status(401, on="layer"), "unauthorized", False),
    ("layer-503", lambda: Status(503, on="layer"), "unreachable", True),
    ("config-truncated", lambda: Truncated(on="config"), "corrupt", True),
]


@pytest.mark.slow  # Docker retries some of these for five seconds and more
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("make", "reason", "retryable"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_failed_refresh_keeps_the_old_image(
    runtime: Runtime,
    fault_registry: FaultRegistry,
    busybox: Path,
    pulled: Callable[[str], str],
    *,
    make: Callable[[], Fault],
    reason: str,
    retryable: bool,
) -> None:
    """Whatever a registry answers, a failed refresh is an error with its reason, never the old image as a success."""
    reference = pulled(fault_registry.add(fresh(busybox, "old"), "team/box"))
    old = runtime.pull(reference)
    fault_registry.add(fresh(busybox, "new"), "team/box")
    fault = fault_registry.fail("team/box", make())
    events: list[ProgressEvent] = []
    with pytest.raises(ImagePullError) as caught:
        runtime.pull(reference, progress=events.append)

    assert (reason, retryable) == (caught.value.reason, caught.value.retryable)
    assert ("docker", reference) == (caught.value.runtime, caught.value.subject)
    assert caught.value.hint
    assert fault.hits >= 1
    assert old == runtime.inspect_image(reference)
    assert not any(event.phase == "done" and not event.layer for event in events)
    fault_registry.heal("team/box")
    assert old.id != runtime.pull(reference).id


def test_a_registry_that_does_not_answer_is_unreachable(runtime: Runtime) -> None:
    """A port that nobody listens on is told at once, and may be tried again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ImagePullError) as caught:
        runtime.pull(f"{address}/team/box:latest")

    assert ("unreachable", True) == (caught.value.reason, caught.value.retryable)


def test_no_manifest_for_this_platform(
    runtime: Runtime, fault_registry: FaultRegistry, busybox: Path, pulled: Callable[[str], str]
) -> None:
    """An index of other machines' images has none for us, unless theirs is asked for."""
    other = busybox_image(busybox, platform="linux/s390x")
    reference = pulled(fault_registry.add(Index((other,)), "team/box"))
    with pytest.raises(ImagePullError) as caught:
        runtime.pull(reference)
    info = runtime.pull(reference, platform="linux/s390x")

    assert ("no_platform", False) == (caught.value.reason, caught.value.retryable)
    assert "linux/s390x" == info.platform


def test_an_image_of_another_platform_is_not_taken_without_a_word(
    runtime: Runtime, fault_registry: FaultRegistry, busybox: Path, pulled: Callable[[str], str]
) -> None:
    """Engines take a manifest that stands alone whatever it is for; what had the name gets it back."""
    reference = pulled(fault_registry.add(fresh(busybox, "ours"), "team/box"))
    missing = fault_registry.add(fresh(busybox, "theirs", platform="linux/s390x"), "team/other")
    ours = runtime.pull(reference)
    fault_registry.add(fresh(busybox, "theirs", platform="linux/s390x"), "team/box")
    with pytest.raises(ImagePullError) as replaced:
        runtime.pull(reference)
    with pytest.raises(ImagePullError) as asked:
        runtime.pull(missing, platform=ours.platform)
    with pytest.raises(ImagePullError) as both:
        runtime.pull(reference, platform=ours.platform)

    assert ["no_platform"] * 3 == [error.value.reason for error in (replaced, asked, both)]
    assert "linux/s390x" in replaced.value.message
    assert "linux/s390x" in replaced.value.hint
    assert ours.id == runtime.inspect_image(reference).id
    assert not runtime.exists(missing)


def test_existing_is_existing_for_the_platform(
    runtime: Runtime, fault_registry: FaultRegistry, busybox: Path, pulled: Callable[[str], str]
) -> None:
    """An image for another machine is not the one that is wanted, though the name fits."""
    reference = pulled(fault_registry.add(busybox_image(busybox, platform="linux/s390x"), "team/box"))
    runtime.pull(reference, platform="linux/s390x")

    assert [True, True, False] == [
        runtime.exists(reference, platform=platform) for platform in (None, "linux/s390x", "linux/amd64")
    ]
    with pytest.raises(ImageNotFoundError, match="linux/s390x"):
        runtime.inspect_image(reference, platform="linux/amd64")


def test_silence_is_a_stalled_pull(
    images_of: Callable[..., Images], fault_registry: FaultRegistry, busybox: Path
) -> None:
    """A layer that stops coming ends the pull when nothing has come for a while."""
    reference = fault_registry.add(fresh(busybox, "stall"), "team/box")
    fault_registry.fail("team/box", Stalled(after=1000))
    error = failure(images_of(silence=1.0), reference)

    assert ("stalled", True) == (error.reason, error.retryable)
    assert not images_of().exists(reference, None)


def test_a_registry_that_does_not_even_begin_stalls_too(
    images_of: Callable[..., Images], fault_registry: FaultRegistry, busybox: Path
) -> None:
    """An engine that waits for the manifest has not answered us yet."""
    reference = fault_registry.add(busybox_image(busybox), "team/box")
    fault_registry.fail("team/box", Stalled(on="manifest", after=0))

    assert "stalled" == failure(images_of(silence=1.0), reference).reason


def test_a_trickle_is_no_stall(
    images_of: Callable[..., Images], fault_registry: FaultRegistry, busybox: Path, pulled: Callable[[str], str]
) -> None:
    """A slow line is not cut while bytes flow."""
    reference = pulled(fault_registry.add(fresh(busybox, "slow"), "team/box"))
    fault_registry.fail("team/box", Slow(200_000, times=1))
    info = images_of(silence=1.2).pull(reference, None, progress=None, cancel=None, timeout=None)

    assert (reference,) == info.references


def test_a_pull_has_a_deadline_if_it_is_given_one(
    runtime: Runtime, fault_registry: FaultRegistry, busybox: Path
) -> None:
    """The whole pull, however busy it is."""
    reference = fault_registry.add(fresh(busybox, "late"), "team/box")
    fault_registry.fail("team/box", Slow(20_000))
    began = time.monotonic()
    with pytest.raises(OperationTimeoutError) as caught:
        runtime.pull(reference, timeout=1.0)

    assert ("pull", 1.0) == (caught.value.operation, caught.value.timeout)
    assert time.monotonic() - began < 3
    assert not runtime.exists(reference)


@pytest.mark.parametrize("fault", [Stalled(on="manifest", after=0), Stalled(after=1000), Slow(20_000)])
def test_cancelling_ends_a_pull_within_two_seconds(
    runtime: Runtime, fault_registry: FaultRegistry, busybox: Path, fault: Fault
) -> None:
    """Also one that has stalled. Where bytes flow, the engine's own download ends with it."""
    reference = fault_registry.add(fresh(busybox, "cancel"), "team/box")
    fault_registry.fail("team/box", fault)
    cancel = Cancel()
    caught: list[OublietteError] = []

    def pull() -> None:
        try:
            runtime.pull(reference, cancel=cancel)
        except OublietteError as error:
            caught.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    assert fault.reached.wait(20)
    began = time.monotonic()
    cancel.cancel()
    thread.join(20)

    assert time.monotonic() - began < 2
    (error,) = caught
    assert isinstance(error, ImagePullError)
    assert ("cancelled", False) == (error.reason, error.retryable)
    assert not isinstance(fault, Slow) or fault.disconnected.wait(10)
    assert not runtime.exists(reference)


@pytest.mark.parametrize("greets", [False, True])
def test_cancelling_does_not_wait_for_a_frozen_engine(tmp_path: Path, *, greets: bool) -> None:
    """Whatever the pull is waiting for by then."""
    release = threading.Event()

    def script(_sock: socket.socket, _head: bytes) -> bool:
        release.wait(20)
        return False

    cancel = Cancel()
    timer = threading.Timer(0.3, cancel.cancel)
    with (
        ScriptedEngine(tmp_path / "engine.sock", script, PING if greets else PING[:20]) as engine,
        Connection(engine.endpoint) as connection,
    ):
        images = Images(connection, Credentials(Surroundings(environ={}, home=tmp_path)))
        timer.start()
        began = time.monotonic()
        error = failure(images, "box:latest", cancel=cancel)
        seconds = time.monotonic() - began
        release.set()

    assert ("cancelled", True) == (error.reason, seconds < 2)


def test_a_callback_that_fails_ends_the_pull(runtime: Runtime, fault_registry: FaultRegistry, busybox: Path) -> None:
    """Its own error comes out, and nothing is downloaded any more."""
    reference = fault_registry.add(fresh(busybox, "callback"), "team/box")
    slow = fault_registry.fail("team/box", Slow(20_000))

    def fail(event: ProgressEvent) -> None:
        if event.phase == "downloading":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runtime.pull(reference, progress=fail)

    assert slow.disconnected.wait(10)


# -- What an engine can do --------------------------------------------------------------------------------------------


def line(**message: object) -> bytes:
    """Put one message of the engine's together."""
    return chunk(json.dumps(message).encode() + b"\r\n")


FINAL = line(status=f"Digest: {DIGEST}") + line(status="Status: Image is up to date for box:latest")
BEGUN = CHUNKED + line(status="Pulling from box", id="latest")
LOCAL = {"Id": "sha256:" + "b" * 64, "RepoTags": ["box:latest"], "RepoDigests": [f"box@{DIGEST}"]}


def scripted_pull(path: Path, stream: bytes, local: object = LOCAL) -> None:
    """Pull from an engine that answers with ``stream`` and has ``local`` under the name."""

    def script(connection: socket.socket, head: bytes) -> bool:
        if b"/images/create" in head:
            connection.sendall(stream)
            return False
        found = b"/version" not in head and local is None
        body = {"Os": "linux", "Arch": "amd64"} if b"/version" in head else local
        connection.sendall(reply(b'{"message":"No such image"}', "404 Not Found") if found else reply(_json(body)))
        return True

    with ScriptedEngine(path, script) as engine, Connection(engine.endpoint) as connection:
        credentials = Credentials(Surroundings(environ={}, home=path.parent))
        Images(connection, credentials).pull("box:latest", None, progress=None, cancel=None, timeout=20)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_scripted_pull_can_succeed(tmp_path: Path) -> None:
    """The failures below are not those of the script."""
    scripted_pull(tmp_path / "engine.sock", BEGUN + FINAL + chunk(b""))


@pytest.mark.parametrize(
    ("stream", "local", "words"),
    [
        pytest.param(BEGUN + chunk(b""), LOCAL, "before it said", id="ends early"),
        pytest.param(BEGUN + line(status="Downloading", id="a") + chunk(b""), LOCAL, "before it said", id="no status"),
        pytest.param(BEGUN + line(error="boom") + FINAL + chunk(b""), LOCAL, "boom", id="error, then success"),
        pytest.param(
            BEGUN + FINAL + line(errorDetail={"message": "late"}) + chunk(b""), LOCAL, "late", id="late error"
        ),
        pytest.param(BEGUN + FINAL + chunk(b""), None, "does not have it", id="absent"),
        pytest.param(
            BEGUN + FINAL + chunk(b""), {**LOCAL, "RepoDigests": ["box@sha256:old"]}, "another image", id="old image"
        ),
        pytest.param(BEGUN + FINAL + chunk(b""), {**LOCAL, "RepoDigests": None}, "another image", id="no digest"),
        pytest.param(
            BEGUN + line(status="Download complete", id="7e8c60095a9d") + chunk(b""),
            LOCAL,
            "another image",
            id="podman, another id",
        ),
    ],
)
def test_an_engine_that_did_not_finish_is_not_believed(
    tmp_path: Path, stream: bytes, local: object, words: str
) -> None:
    """The old image is there in most of these, and a careless client would return it."""
    with pytest.raises(ImagePullError, match=words):
        scripted_pull(tmp_path / "engine.sock", stream, local)


@pytest.mark.parametrize("stream", [BEGUN, BEGUN + FINAL, BEGUN + chunk(b"<html>\n")])
def test_an_engine_that_goes_away_is_lost(tmp_path: Path, stream: bytes) -> None:
    """Also when it had said that all was well: the answer never ended."""
    with pytest.raises(RuntimeLostError):
        scripted_pull(tmp_path / "engine.sock", stream)


def test_podmans_way_of_finishing_is_believed(tmp_path: Path) -> None:
    """Its last message names the image, and the name resolves to it."""
    stream = BEGUN + line(status="Download complete", id="b" * 12) + chunk(b"")
    scripted_pull(tmp_path / "engine.sock", stream, {**LOCAL, "Id": "b" * 64})


# -- Looking and removing ---------------------------------------------------------------------------------------------


def test_what_is_absent_is_absent(runtime: Runtime) -> None:
    """Asking changes nothing and needs no network."""
    assert not runtime.exists("oubliette-test-absent:latest")
    assert not runtime.exists(DIGEST)
    assert not runtime.remove_image("oubliette-test-absent:latest")
    with pytest.raises(ImageNotFoundError) as caught:
        runtime.inspect_image("oubliette-test-absent:latest")

    assert ("docker", "oubliette-test-absent:latest") == (caught.value.runtime, caught.value.subject)


def test_removing_takes_the_name_and_then_the_image(runtime: Runtime, images: ImageMaker) -> None:
    """Of two names for one image the other one stays."""
    first, second = images.push("a"), images.push("b")
    info = runtime.pull(first.reference)
    runtime.pull(second.reference)
    removed = [runtime.remove_image(first.reference), runtime.exists(second.reference)]
    removed += [runtime.remove_image(second.reference), runtime.remove_image(second.reference)]

    assert [True, True, True, False] == removed
    assert not runtime.exists(first.reference)
    assert info.id


def test_an_image_in_use_is_not_removed(runtime: Runtime, make_container: MakeContainer, images: ImageMaker) -> None:
    """Not even when its container does not run."""
    reference = images.push(labels={"in": "use"}).reference
    runtime.pull(reference)
    container = make_container(image=reference)
    with pytest.raises(InUseError):
        runtime.remove_image(reference)
    there = runtime.exists(reference)
    runtime.remove(container.id)

    assert there
    assert runtime.remove_image(reference)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("box:1", "box:1"),
        (f"r.example:5000/box:1@{DIGEST}", f"r.example:5000/box@{DIGEST}"),
        (DIGEST, DIGEST),
    ],
)
def test_engines_get_a_tag_or_a_digest(image: str, expected: str) -> None:
    """Podman refuses a reference with both."""
    assert expected == engine_reference(image)
