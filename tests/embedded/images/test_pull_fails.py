"""Pulls that fail: each says why, in time, and leaves what was there."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from oubliette_core.errors import ImagePullError, OperationTimeoutError, RuntimeOperationError
from oubliette_core.models import Cancel
from oubliette_core.testing.faults import Corrupt, Fault, Hangup, Junk, Redirect, Slow, Stalled, Status, Truncated
from oubliette_core.testing.images import Index, build_image, files_layer, random_layer
from oubliette_core.testing.registry import FaultRegistry
from oubliette_embedded.images import ImageStore, Limits, _download, _pull
from tests.embedded.images.tars import file, layer
from tests.embedded.images.test_pull import FOREIGN, OWN, blobs, content, image

SOON = 1.9
"""Seconds within which a cancelled pull has ended, in which nothing but us is slow."""


def failing(store: ImageStore, reference: str, **options: Any) -> ImagePullError:
    """Pull, and give the error."""
    with pytest.raises(ImagePullError) as failed:
        store.pull(reference, options.pop("platform", None), **options)

    assert (reference, "embedded") == (failed.value.subject, failed.value.runtime)
    assert str(failed.value).startswith(f"image {reference} could not be pulled")
    return failed.value


@pytest.mark.parametrize(
    ("fault", "reason", "retryable"),
    [
        (Status(401), "unauthorized", False),
        (Status(403), "unauthorized", False),
        (Status(404), "not_found", False),
        (Status(429), "rate_limited", True),
        (Status(500), "unreachable", True),
        (Status(503), "unreachable", True),
        (Status(418), "other", False),
        (Status(403, on="config"), "unauthorized", False),
        (Status(404, on="layer"), "not_found", False),
        (Status(429, on="layer"), "rate_limited", True),
        (Status(503, on="layer"), "unreachable", True),
        (Hangup(), "unreachable", True),
        (Hangup(on="layer"), "unreachable", True),
        (Truncated(on="manifest"), "unreachable", True),
        (Truncated(on="config"), "unreachable", True),
        (Truncated(), "unreachable", True),
        (Corrupt(on="manifest"), "corrupt", False),
        (Corrupt(on="config"), "corrupt", False),
        (Corrupt(), "corrupt", False),
        (Junk(), "unreachable", True),
        (Junk(b"{}", media_type="application/json"), "corrupt", False),
        (Junk(on="config"), "corrupt", False),
        (Junk(on="layer"), "corrupt", True),
        (Junk(bytes(100_000), on="layer"), "corrupt", False),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.on}" if isinstance(value, Fault) else str(value),
)
def test_each_failure_has_its_reason(
    store: ImageStore, fault_registry: FaultRegistry, fault: Fault, reason: str, retryable: bool
) -> None:
    """Whoever retries goes by it. The image that was there stays, and nothing new appears."""
    old = image("old")
    reference = fault_registry.add(old, "tool")
    store.pull(reference, None)
    fault_registry.add(image("new", random_layer(0.05, "new")), "tool")
    fault_registry.fail("tool", fault)
    error = failing(store, reference)
    fault.release()

    assert (reason, retryable) == (error.reason, error.retryable)
    assert (old.image_id, "old") == (store.inspect(reference, None).id, content(store, reference)["word"])


def test_a_registry_may_say_when_to_come_back(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """In seconds; and it is asked no more than it has to be."""
    reference = fault_registry.add(image(), "tool")
    fault_registry.fail("tool", Status(429, retry_after=17, message="slow down"))
    error = failing(store, reference)

    assert 17 == error.retry_after
    assert "slow down" in str(error)
    assert 1 == fault_registry.count("manifest")


def test_what_a_registry_says_is_one_line_that_is_safe_to_print(
    store: ImageStore, fault_registry: FaultRegistry
) -> None:
    """It may be meant for a terminal."""
    reference = fault_registry.add(image(), "tool")
    fault_registry.fail("tool", Status(403, message="no\n\x1b[31m entry\r" + "x" * 5000))
    error = failing(store, reference)

    assert "no [31m entry xxx" in str(error)
    assert len(str(error)) < 600


def test_a_registry_that_is_not_there_is_unreachable(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address has to be there, too."""

    def unknown(*_arguments: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused = failing(store, f"127.0.0.1:{taken.getsockname()[1]}/tool:latest")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    nowhere = failing(store, "registry.invalid/tool:latest")

    assert [("unreachable", True)] * 2 == [(error.reason, error.retryable) for error in (refused, nowhere)]
    assert "no known address" in str(nowhere)


def test_a_platform_that_is_not_offered_is_told(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """With those that are; also for an image that is for one platform only."""
    index = fault_registry.add(Index((image(platform=FOREIGN),)), "index")
    single = fault_registry.add(image(platform=FOREIGN), "single")
    errors = [failing(store, index), failing(store, single), failing(store, index, platform="linux/riscv64")]

    assert ["no_platform"] * 3 == [error.reason for error in errors]
    assert all(FOREIGN in str(error) for error in errors)
    assert OWN in str(errors[0])
    assert "linux/riscv64" in str(errors[2])
    assert [] == blobs(store) or not store.exists(single, None)


def test_a_hostile_layer_is_refused(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """As one that is damaged."""
    reference = fault_registry.add(image("1", layer(file("../../outside"))), "tool")
    error = failing(store, reference)

    assert "corrupt" == error.reason
    assert "leads outside" in str(error)
    assert [] == list((store._disk.root / "l").iterdir()) or not store.exists(reference, None)


def test_a_bomb_is_refused(tmp_path: Path, fault_registry: FaultRegistry) -> None:
    """By the limits that the store was given."""
    store = ImageStore(tmp_path / "images", limits=Limits(size=1000))
    error = failing(store, fault_registry.add(image("1", files_layer({"/a": bytes(2000)})), "tool"))

    assert ("corrupt", True) == (error.reason, "1,000 bytes" in str(error))


@pytest.mark.parametrize("change", ["diff_ids", "size"])
def test_documents_that_do_not_agree_are_refused(store: ImageStore, fault_registry: FaultRegistry, change: str) -> None:
    """Digests are right here, and what they stand for is not."""
    given = image()
    if change == "diff_ids":
        wrong = given.config.replace(given.layers[0].diff_id.encode(), b"sha256:" + b"0" * 64)
        reference = fault_registry.add(dataclasses.replace(given, config=wrong), "tool")
    else:
        reference = fault_registry.add(given, "tool")
        kind, data = fault_registry.store.manifests["tool", "latest"]
        size = len(given.layers[0].data)
        changed = data.replace(b'"size":%d' % size, b'"size":%d' % (size - 1))
        fault_registry.store.put_manifest("tool", "latest", changed, kind)

    assert "corrupt" == failing(store, reference).reason


def test_redirects_have_an_end(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """A registry that sends in circles is not reached."""
    reference = fault_registry.add(image(), "tool")
    fault_registry.fail("tool", Redirect(fault_registry.url))

    assert "unreachable" == failing(store, reference).reason


def test_a_redirect_to_a_file_is_not_followed(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Only HTTP is."""
    reference = fault_registry.add(image(), "tool")
    fault_registry.fail("tool", Redirect("file://"))

    assert "not safe" in str(failing(store, reference))


# -- The disk ---------------------------------------------------------------------------------------------------------


def test_too_little_room_is_told_before_anything_is_downloaded(
    store: ImageStore, fault_registry: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how much there is."""
    monkeypatch.setattr(_pull.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    error = failing(store, fault_registry.add(image(), "tool"))

    assert ("no_space", False, 0) == (error.reason, error.retryable, fault_registry.count("layer"))


def test_a_full_disk_is_no_space(
    store: ImageStore, fault_registry: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the remains do not stay there to fill it."""

    def full(_file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_download, "finish_file", full)
    error = failing(store, fault_registry.add(image(), "tool"))

    assert ("no_space", []) == (error.reason, list(store._disk.partial.iterdir()))


def test_a_store_of_somebody_else_is_not_used(tmp_path: Path, fault_registry: FaultRegistry) -> None:
    """What is in it, they could change at any time."""
    if os.geteuid():
        pytest.skip("needs a directory of somebody else")
    root = tmp_path / "images"
    root.mkdir()
    os.chown(root, 12345, 12345)

    with pytest.raises(RuntimeOperationError, match="somebody else"):
        ImageStore(root).pull(fault_registry.add(image(), "tool"), None)


# -- Time -------------------------------------------------------------------------------------------------------------


def cancelled(store: ImageStore, reference: str, reached: threading.Event) -> None:
    """Cancel a pull once something has been reached, and see it end soon."""
    cancel = Cancel()
    asked: list[float] = []

    def run() -> None:
        assert reached.wait(20)
        asked.append(time.monotonic())
        cancel.cancel()

    thread = threading.Thread(target=run)
    thread.start()
    error = failing(store, reference, cancel=cancel)
    took = time.monotonic() - asked[0]
    thread.join()

    assert ("cancelled", False) == (error.reason, error.retryable)
    assert took < SOON + 2  # the machine may be busy with other things
    assert not store.exists(reference, None)


@pytest.mark.parametrize(
    "fault",
    [
        Slow(10_000),
        Stalled(after=1000),
        Stalled(after=0),
        Stalled(on="manifest", after=0),
        Stalled(on="config", after=0),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{fault.on}",
)
def test_a_pull_can_be_cancelled_whatever_it_waits_for(
    store: ImageStore, fault_registry: FaultRegistry, fault: Any
) -> None:
    """And begun again afterwards."""
    reference = fault_registry.add(image("1", random_layer(0.3, "a")), "tool")
    fault_registry.fail("tool", fault)
    cancelled(store, reference, getattr(fault, "stalled", fault.reached))
    fault_registry.heal("tool")

    assert store.pull(reference, None) == store.inspect(reference, None)


def test_a_registry_that_does_not_take_the_connection_can_be_cancelled(store: ImageStore) -> None:
    """The thread that waits for it is left behind."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        # The queue of a server that accepts nobody is full after one or two.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        reached = threading.Event()
        threading.Timer(0.3, reached.set).start()
        cancelled(store, f"127.0.0.1:{port}/tool:latest", reached)
        for one in waiting:
            one.close()


def test_a_cancelled_pull_does_not_begin(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Nobody is asked anything."""
    cancel = Cancel()
    cancel.cancel()

    assert "cancelled" == failing(store, fault_registry.add(image(), "tool"), cancel=cancel).reason
    assert 0 == fault_registry.count()


def test_silence_is_a_stall(tmp_path: Path, fault_registry: FaultRegistry) -> None:
    """Two minutes of it, in earnest."""
    store = ImageStore(tmp_path / "images", silence=0.4)
    reference = fault_registry.add(image("1", random_layer(0.1, "a")), "tool")
    fault_registry.fail("tool", Stalled(after=1000))
    error = failing(store, reference)

    assert ("stalled", True) == (error.reason, error.retryable)


def test_a_slow_registry_has_not_stalled(tmp_path: Path, fault_registry: FaultRegistry) -> None:
    """Whatever comes is a sign of life."""
    store = ImageStore(tmp_path / "images", silence=1.0)
    reference = fault_registry.add(build_image(random_layer(0.02, "a"), platform=OWN), "tool")
    fault_registry.fail("tool", Slow(12_000))

    assert store.pull(reference, None).id


def test_a_pull_has_a_deadline_if_it_is_given_one(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Whatever it waits for by then."""
    reference = fault_registry.add(image("1", random_layer(0.1, "a")), "tool")
    fault_registry.fail("tool", Stalled(after=0))
    began = time.monotonic()
    with pytest.raises(OperationTimeoutError) as failed:
        store.pull(reference, None, timeout=0.5)

    assert ("pull", 0.5, reference) == (failed.value.operation, failed.value.timeout, failed.value.subject)
    assert time.monotonic() - began < 4


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    """An authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def secure_registry(fault_registry: FaultRegistry, authority: trustme.CA) -> Iterator[str]:
    """The address of a port in front of the registry that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()
        thread = threading.Thread(target=_relay, args=(server, context, fault_registry.address, stop))
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        thread.join()


def _relay(server: socket.socket, context: Any, target: str, stop: threading.Event) -> None:
    server.settimeout(0.05)
    threads = []
    while not stop.is_set():
        try:
            plain, _ = server.accept()
        except TimeoutError:
            continue
        threads.append(threading.Thread(target=_serve, args=(plain, context, target)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def _serve(plain: socket.socket, context: Any, target: str) -> None:
    host, port = target.split(":")
    with plain:
        try:
            client = context.wrap_socket(plain, server_side=True)
        except OSError:
            return
        with client, socket.create_connection((host, int(port))) as registry:

            def back() -> None:
                with contextlib.suppress(OSError):
                    while data := registry.recv(65536):
                        client.sendall(data)

            thread = threading.Thread(target=back)
            thread.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    registry.sendall(data)
            registry.shutdown(socket.SHUT_WR)
            thread.join()


def test_a_registry_of_this_machine_may_speak_tls(
    tmp_path: Path,
    fault_registry: FaultRegistry,
    secure_registry: str,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is tried without first, as a test's registry has none; then with, and its certificate has to be right."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    reference = fault_registry.add(image(), "tool").replace(fault_registry.address, secure_registry)
    error = failing(ImageStore(tmp_path / "images"), reference)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    assert "unreachable" == error.reason
    assert ImageStore(tmp_path / "images").pull(reference, None).references == (reference,)


# -- Proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_asked_for_registries_elsewhere_and_never_for_those_here(
    store: ImageStore, fault_registry: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other program does, by the variables that all of them know."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    error = failing(store, "registry.invalid/tool:latest")

    assert ("unreachable", True) == (error.reason, "proxy" in str(error))
    assert "HTTPS_PROXY" in error.hint
    assert store.pull(fault_registry.add(image(), "tool"), None).id
