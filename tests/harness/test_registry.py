"""The registry serves and stores as a real one does, and each fault is exactly the fault that it is named after."""

import http.client
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from oubliette_core.testing.faults import (
    Corrupt,
    Hangup,
    Junk,
    Redirect,
    Slow,
    Stalled,
    Status,
    Target,
    Truncated,
)
from oubliette_core.testing.images import Image, Index, build_image, files_layer, random_layer
from oubliette_core.testing.registry import BasicAuth, FaultRegistry, TokenAuth
from oubliette_core.testing.upload import PushError, push
from tests.engine import Engine
from tests.engine.dockerhttp import docker_connection, registry_answers
from tests.harness import raw
from tests.images import ImageMaker

NAME = "team/tool"


@pytest.fixture
def image() -> Image:
    """An image that no engine can run, and that needs none."""
    return build_image(files_layer({"/hello": "hello"}), random_layer(0.1, "registry"))


@pytest.fixture
def client(fault_registry: FaultRegistry) -> Iterator[http.client.HTTPConnection]:
    """A connection to the registry."""
    connection = http.client.HTTPConnection(fault_registry.address, timeout=10)
    yield connection
    connection.close()


def get(
    client: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Make one request for something of the repository."""
    client.request(method, f"/v2/{NAME}/{path}", headers=headers)
    response = client.getresponse()
    return response.status, response.headers, response.read()


def layer_path(image: Image) -> str:
    """The path of an image's biggest layer."""
    return f"blobs/{image.layers[-1].digest}"


def test_serves_what_was_added(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """Manifests by tag and by digest, blobs by digest, each with its own type."""
    reference = fault_registry.add(image, NAME, "v1")

    status, headers, body = get(client, "manifests/v1")
    assert f"{fault_registry.address}/{NAME}:v1" == reference
    assert (200, image.manifest) == (status, body)
    assert (image.media_type, image.digest) == (headers["Content-Type"], headers["Docker-Content-Digest"])
    assert (200, image.manifest) == get(client, f"manifests/{image.digest}")[::2]
    assert (200, image.layers[-1].data) == get(client, layer_path(image))[::2]
    assert (200, image.config) == get(client, f"blobs/{image.image_id}")[::2]
    assert (404, 404) == (get(client, "manifests/v2")[0], get(client, "blobs/sha256:00")[0])
    assert b'{"name": "team/tool", "tags": ["v1"]}' == get(client, "tags/list")[2]


def test_head_announces_the_length_and_sends_nothing(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image
) -> None:
    """HEAD is GET without the body."""
    fault_registry.add(image, NAME)

    status, headers, body = get(client, "manifests/latest", "HEAD")

    assert (200, str(len(image.manifest)), b"") == (status, headers["Content-Length"], body)


def test_a_download_can_be_resumed(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image
) -> None:
    """Range requests give the part that is asked for, and 416 past the end."""
    fault_registry.add(image, NAME)
    data = image.layers[-1].data

    status, headers, body = get(client, layer_path(image), Range="bytes=1000-")

    assert (206, data[1000:]) == (status, body)
    assert f"bytes 1000-{len(data) - 1}/{len(data)}" == headers["Content-Range"]
    assert 416 == get(client, layer_path(image), Range=f"bytes={len(data)}-")[0]


def test_takes_pushes_and_moves_tags(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image
) -> None:
    """A tag that is pushed again points to the new image; the old one stays reachable by its digest."""
    newer = build_image(*image.layers, labels={"version": "2"})
    push(image, fault_registry.address, NAME)
    push(newer, fault_registry.address, NAME)

    assert newer.manifest == get(client, "manifests/latest")[2]
    assert image.manifest == get(client, f"manifests/{image.digest}")[2]
    assert b'{"name": "team/tool", "tags": ["latest"]}' == get(client, "tags/list")[2]


def test_refuses_an_upload_with_the_wrong_digest(client: http.client.HTTPConnection) -> None:
    """What is stored under a digest has that digest."""
    client.request("POST", f"/v2/{NAME}/blobs/uploads/?digest=sha256:00", b"data")
    response = client.getresponse()

    assert (400, True) == (response.status, b"did not match" in response.read())


def test_counts_requests_by_kind(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image
) -> None:
    """A test can tell how often the network was used, and for what."""
    fault_registry.add(image, NAME)
    get(client, "manifests/latest", "HEAD")
    get(client, "manifests/latest")
    get(client, layer_path(image))
    get(client, f"blobs/{image.image_id}")

    counts = {kind: fault_registry.count(kind) for kind in ("manifest", "layer", "config", "ping")}
    assert {"manifest": 2, "layer": 1, "config": 1, "ping": 0} == counts
    assert 1 == fault_registry.count("manifest", method="GET", repository=NAME)
    assert 0 == fault_registry.count("manifest", repository="other")


def test_waiting_for_requests_ends_when_they_come(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection
) -> None:
    """`wait_for` returns at the request, and fails when none comes."""
    asking = threading.Thread(target=get, args=(client, "manifests/latest"))
    asking.start()
    fault_registry.wait_for("manifest", timeout=10)
    asking.join()

    with pytest.raises(TimeoutError, match="1 of 2 manifest requests came"):
        fault_registry.wait_for("manifest", 2, timeout=0.01)


@pytest.mark.parametrize("on", ["manifest", "layer"])
@pytest.mark.parametrize(
    "error",
    [
        (401, b"UNAUTHORIZED"),
        (403, b"DENIED"),
        (404, b"MANIFEST_UNKNOWN"),
        (429, b"TOOMANYREQUESTS"),
        (500, b"UNKNOWN"),
        (503, b"UNAVAILABLE"),
    ],
)
def test_status(
    fault_registry: FaultRegistry,
    client: http.client.HTTPConnection,
    image: Image,
    error: tuple[int, bytes],
    on: Target,
) -> None:
    """An error status comes on what it was asked for, as often as it was asked for, and nowhere else."""
    status, code = error
    fault_registry.add(image, NAME)
    paths = {"manifest": "manifests/latest", "layer": layer_path(image)}
    fault = fault_registry.fail(NAME, Status(status, on=on, times=2, retry_after=7))

    seen = [get(client, paths[on]) for _ in range(3)]

    assert [status, status, 200] == [answer[0] for answer in seen]
    assert (True, "7") == (code in seen[0][2], seen[0][1]["Retry-After"])
    assert (2, True) == (fault.hits, fault.reached.is_set())


def test_faults_hit_only_what_they_are_for(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image
) -> None:
    """A fault on layers leaves manifests alone, and the other way round."""
    fault_registry.add(image, NAME)
    fault = fault_registry.fail(NAME, Status(500, on="layer"))

    assert [200, 200, 500] == [
        get(client, path)[0] for path in ("manifests/latest", f"blobs/{image.image_id}", layer_path(image))
    ]
    assert 1 == fault.hits


def test_faults_stay_in_their_repository_until_it_is_healed(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image
) -> None:
    """Without `times` a fault stays; `heal` ends it; other repositories never see it."""
    fault_registry.add(image, NAME)
    fault_registry.fail("other", Status(500))
    assert 200 == get(client, "manifests/latest")[0]

    fault_registry.fail(NAME, Status(500))
    assert [500, 500] == [get(client, "manifests/latest")[0] for _ in range(2)]

    fault_registry.heal(NAME)
    assert 200 == get(client, "manifests/latest")[0]


def test_truncated(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """The connection ends before the announced length."""
    fault_registry.add(image, NAME)
    fault_registry.fail(NAME, Truncated(after=100, times=1))

    with pytest.raises(http.client.IncompleteRead) as caught:
        get(client, layer_path(image))

    data = image.layers[-1].data
    assert (data[:100], len(data) - 100) == (caught.value.partial, caught.value.expected)
    client.close()
    assert data == get(client, layer_path(image))[2]


def test_corrupt(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """The length is right, the content is not."""
    fault_registry.add(image, NAME)
    fault_registry.fail(NAME, Corrupt())

    status, _headers, body = get(client, layer_path(image))

    data = image.layers[-1].data
    assert (200, len(data), True) == (status, len(body), body != data)


def test_hangup(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """There is no answer at all."""
    fault_registry.add(image, NAME)
    fault_registry.fail(NAME, Hangup(times=1))

    with pytest.raises(http.client.RemoteDisconnected):
        get(client, "manifests/latest")

    client.close()
    assert 200 == get(client, "manifests/latest")[0]


def test_junk(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """A web page comes instead of a manifest."""
    fault_registry.add(image, NAME)
    fault_registry.fail(NAME, Junk())

    status, headers, body = get(client, "manifests/latest")

    assert (200, "text/html; charset=utf-8", b"<!DOCTYPE") == (status, headers["Content-Type"], body[:9])


def test_redirect(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """Another host has the layer."""
    with FaultRegistry() as storage:
        fault_registry.add(image, NAME)
        fault_registry.fail(NAME, Redirect(storage.url))
        status, headers, body = get(client, layer_path(image))

        assert (307, b"") == (status, body)
        assert f"{storage.url}/v2/{NAME}/{layer_path(image)}" == headers["Location"]


def test_slow(fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image) -> None:
    """Bytes keep coming, slower than they could; `release` sends the rest."""
    fault_registry.add(image, NAME)
    fault = fault_registry.fail(NAME, Slow(1000))
    client.request("GET", f"/v2/{NAME}/{layer_path(image)}")
    response = client.getresponse()

    started = time.monotonic()
    beginning = response.read(301)  # the fourth piece of 100 bytes: three pauses
    took = time.monotonic() - started
    fault.release()
    assert image.layers[-1].data == beginning + response.read()
    assert took >= 0.25
    assert not fault.disconnected.is_set()


@pytest.mark.parametrize("after", [0, 10])
def test_stalled_and_released(
    fault_registry: FaultRegistry, client: http.client.HTTPConnection, image: Image, after: int
) -> None:
    """The answer stops, with or without a beginning, and goes on when the test says so."""
    fault_registry.add(image, NAME)
    fault = fault_registry.fail(NAME, Stalled(after=after))
    client.request("GET", f"/v2/{NAME}/{layer_path(image)}")
    assert fault.stalled.wait(10)

    assert not fault.disconnected.is_set()
    fault.release()
    assert image.layers[-1].data == client.getresponse().read()


@pytest.mark.parametrize("make", [Stalled, lambda: Slow(1000)], ids=["stalled", "slow"])
def test_a_client_that_leaves_is_seen(
    fault_registry: FaultRegistry,
    client: http.client.HTTPConnection,
    image: Image,
    make: Callable[[], Stalled | Slow],
) -> None:
    """A test can tell that a cancelled download really ended."""
    fault_registry.add(image, NAME)
    fault = fault_registry.fail(NAME, make())
    client.request("GET", f"/v2/{NAME}/{layer_path(image)}")
    assert fault.reached.wait(10)
    client.close()

    assert fault.disconnected.wait(10)


def test_close_leaves_nothing(image: Image) -> None:
    """Neither a stalled download nor an idle client keeps the registry from ending."""
    before = threading.active_count()
    registry = FaultRegistry()
    registry.add(image, NAME)
    fault = registry.fail(NAME, Stalled())
    idle, waiting = (http.client.HTTPConnection(registry.address, timeout=10) for _ in range(2))
    get(idle, "manifests/latest")
    waiting.request("GET", f"/v2/{NAME}/{layer_path(image)}")
    assert fault.stalled.wait(10)

    registry.close()

    assert before == threading.active_count()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(registry.address, timeout=10).connect()
    idle.close()
    waiting.close()


def test_basic_auth(image: Image) -> None:
    """Only the right user name and password open it."""
    with FaultRegistry(auth=BasicAuth(username="ann", password="secret")) as registry:
        with pytest.raises(PushError, match="answered 401"):
            push(image, registry.address, NAME)
        with pytest.raises(PushError, match="answered 401"):
            push(image, registry.address, NAME, credentials=("ann", "wrong"))

        assert image.digest == push(image, registry.address, NAME, credentials=("ann", "secret"))


def test_serves_as_a_program() -> None:
    """It can stand in where no other registry is to be had, and ends when told to."""
    with FaultRegistry() as borrowed:
        address = borrowed.address
    command = [sys.executable, "-m", "oubliette_core.testing.registry", address.rpartition(":")[2]]
    with subprocess.Popen(command) as program:
        _wait_for(address)
        program.send_signal(signal.SIGTERM)

        assert 0 == program.wait(10)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 30
    while not registry_answers(address):
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestWithAnEngine:
    """A real engine takes it for a registry."""

    def test_pull(self, engine: Engine, fault_registry: FaultRegistry, images: ImageMaker) -> None:
        """It pulls, runs, and asks for each thing once."""
        image = images.make(layers=[random_layer(0.1, uuid.uuid4().hex)], files={"/etc/version": "1"})
        reference = fault_registry.add(image, NAME)
        assert "" == raw.pull(engine, reference)

        assert "1" == raw.run(engine, reference, "cat", "/etc/version")
        assert 1 == fault_registry.count("manifest", method="GET")
        asked = [request.reference for request in fault_registry.requests("layer")]
        assert 1 == asked.count(image.layers[-1].digest)

    def test_push(self, engine: Engine, fault_registry: FaultRegistry, images: ImageMaker) -> None:
        """It pushes, in the chunked pieces that engines use."""
        pushed = images.push()
        assert "" == raw.pull(engine, pushed.reference)
        target = f"{fault_registry.address}/{NAME}"
        raw.call(engine, "POST", f"/images/{pushed.reference}/tag?repo={target}&tag=v1")

        assert "" == raw.push(engine, f"{target}:v1")
        raw.call(engine, "DELETE", f"/images/{target}:v1")
        assert "" == raw.pull(engine, f"{target}:v1")

    @pytest.mark.parametrize(
        ("auth", "login"),
        [
            (BasicAuth(username="ann", password="secret"), ("ann", "secret")),
            (TokenAuth(username="ann", password="secret"), ("ann", "secret")),
            (TokenAuth(), None),
        ],
    )
    def test_auth(
        self, engine: Engine, images: ImageMaker, auth: BasicAuth | TokenAuth, login: tuple[str, str] | None
    ) -> None:
        """It logs in both ways, gets in without a name where that is allowed, and not where it is not."""
        with FaultRegistry(auth=auth) as registry:
            reference = registry.add(images.make(), NAME)
            refused = raw.pull(engine, reference) if login else "unauthorized"

            assert "" == raw.pull(engine, reference, login)
            assert "unauthorized" in refused or "no basic auth credentials" in refused
            assert isinstance(auth, TokenAuth) == (registry.count("token") > 0)

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            (Status(404), "manifest unknown"),
            (Status(429), "toomanyrequests"),
            (Status(429, on="layer"), "toomanyrequests"),
            (Corrupt(), "verification failed"),
        ],
        ids=["unknown", "limit", "limit-on-layer", "corrupt"],
    )
    def test_faults(
        self,
        engine: Engine,
        fault_registry: FaultRegistry,
        images: ImageMaker,
        fault: Status | Corrupt,
        expected: str,
    ) -> None:
        """It reports what went wrong, and pulls once all is well again."""
        reference = fault_registry.add(images.make(layers=[random_layer(0.1, expected)]), NAME)
        fault_registry.fail(NAME, fault)
        assert expected in raw.pull(engine, reference)

        fault_registry.heal(NAME)
        assert "" == raw.pull(engine, reference)

    def test_redirect(self, engine: Engine, fault_registry: FaultRegistry, images: ImageMaker) -> None:
        """It follows to the host that has the layers."""
        image = images.make(layers=[random_layer(0.1, "elsewhere")])
        with FaultRegistry() as storage:
            storage.add(image, NAME)
            reference = fault_registry.add(image, NAME)
            fault_registry.fail(NAME, Redirect(storage.url))

            assert "" == raw.pull(engine, reference)
            assert storage.count("layer") >= 1

    def test_no_manifest_for_this_platform(
        self, engine: Engine, fault_registry: FaultRegistry, images: ImageMaker
    ) -> None:
        """An index that lacks this machine's platform is told apart from a missing image."""
        reference = fault_registry.add(Index((images.make(platform="linux/s390x"),)), NAME)

        assert "no matching manifest" in raw.pull(engine, reference)

    def test_cancelling_a_pull_reaches_the_registry(
        self, engine: Engine, fault_registry: FaultRegistry, images: ImageMaker
    ) -> None:
        """Closing the request ends the download, not only the wait for it.

        Bytes must flow for that: Docker 20.10 sees that its client has left when it next reports progress.
        """
        fault_registry.add(images.make(layers=[random_layer(1, "cancelled")]), NAME)
        fault = fault_registry.fail(NAME, Slow(20_000))
        connection = docker_connection(engine.docker_host)
        connection.request("POST", f"/images/create?fromImage={fault_registry.address}/{NAME}&tag=latest")
        assert fault.reached.wait(10)
        connection.close()

        assert fault.disconnected.wait(10)
