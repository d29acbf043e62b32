"""Pulling: what is here afterwards, and what is told on the way. What can go wrong is in `test_pull_fails`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from oubliette_core.errors import ImageNotFoundError, ImagePullError
from oubliette_core.logins import DockerLogins
from oubliette_core.models import ProgressEvent
from oubliette_core.testing.faults import Redirect, Slow, Truncated
from oubliette_core.testing.images import Image, Index, Layer, build_image, files_layer, random_layer
from oubliette_core.testing.registry import BasicAuth, FaultRegistry, Request, TokenAuth
from oubliette_embedded.images import ImageStore
from oubliette_embedded.images._platforms import own_platform
from oubliette_embedded.images._tar import _zstd
from tests.embedded.images.conftest import Order
from tests.images import ImageMaker

OWN = own_platform()
FOREIGN = "linux/s390x"


def image(word: str = "1", *layers: Layer, platform: str = OWN, **settings: object) -> Image:
    """Make an image with one small layer of its own, and others."""
    return build_image(files_layer({"/word": word}), *layers, platform=platform, **settings)  # type: ignore[arg-type]


def content(store: ImageStore, reference: str, platform: str | None = None) -> dict[str, str]:
    """Give the regular files of an image by their names, the uppermost of each."""
    used = store.use(reference, platform, "looker")
    store.release("looker")
    return {
        str(path.relative_to(layer)): path.read_text(errors="replace")
        for layer in used.layers
        for path in layer.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def blobs(store: ImageStore) -> list[str]:
    """Give the digests of all blobs that are here."""
    return sorted(f"sha256:{path.name}" for path in (store._disk.blobs / "sha256").iterdir())


# -- What is there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_an_image_is_there_after_a_pull(store: ImageStore, fault_registry: FaultRegistry, kind: str) -> None:
    """With all that inspect_image tells."""
    given = image("x", labels={"a": "b"}, created="2024-02-29T12:30:00.123456789Z", format=kind)
    reference = fault_registry.add(given, "team/tool", "v1")
    before = store.exists(reference, None)
    info = store.pull(reference, None)

    assert (False, True) == (before, store.exists(reference, None))
    assert info == store.inspect(reference, None)
    assert (given.image_id, (reference,), OWN) == (info.id, info.references, info.platform)
    assert (f"{fault_registry.address}/team/tool@{given.digest}",) == info.digests
    assert ({"a": "b"}, datetime(2024, 2, 29, 12, 30, 0, 123456, UTC)) == (info.labels, info.created_at)
    assert 1 == info.size
    assert {"word": "x"} == content(store, reference)


def test_an_image_says_how_its_containers_are_run(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Entry point, command and the rest, as in its configuration."""
    reference = fault_registry.add(
        image(
            entrypoint=["/bin/tool"],
            command=["--help"],
            env={"A": "1=2", "B": ""},
            user="1000:1000",
            workdir="/job",
            stop_signal="SIGINT",
        ),
        "tool",
    )
    store.pull(reference, None)
    config = store.use(reference, None, "user").config

    assert (("/bin/tool",), ("--help",), {"A": "1=2", "B": ""}) == (config.entrypoint, config.command, config.env)
    assert ("1000:1000", "/job", "SIGINT") == (config.user, config.workdir, config.stop_signal)


def test_every_reference_leads_to_the_image(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Tag, name alone, digest, both, and id; no part of a name does."""
    given = image()
    reference = fault_registry.add(given, "tool")
    info = store.pull(reference, None)
    name = reference.removesuffix(":latest")
    ways = (reference, name, f"{name}@{given.digest}", f"{name}:other@{given.digest}", info.id)
    others = (f"{name}:late", f"{name}x", f"{name}@sha256:{'0' * 64}", f"sha256:{'0' * 64}", "tool", info.id[:20])

    assert [info] * 5 == [store.inspect(way, None) for way in ways]
    assert [False] * 5 == [store.exists(other, None) for other in others[:5]]
    for other in others[:4]:
        with pytest.raises(ImageNotFoundError) as failed:
            store.inspect(other, None)
        assert (other, "embedded") == (failed.value.subject, failed.value.runtime)


def test_a_pull_by_digest_invents_no_tag(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """And needs no registry once the image is here: the digest says that it is the same."""
    old, new = image("old"), image("new")
    name = fault_registry.add(old, "tool").removesuffix(":latest")
    fault_registry.add(new, "tool")
    by_digest = f"{name}@{old.digest}"
    first = store.pull(f"{name}:latest@{old.digest}", None)
    asked = fault_registry.count()
    second = store.pull(by_digest, None)

    assert (old.image_id, first) == (first.id, second)
    assert ((), (by_digest,)) == (first.references, first.digests)
    assert (asked, False) == (fault_registry.count(), store.exists(name, None))


def test_a_refresh_moves_the_tag(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """The old image goes when nothing uses it."""
    shared = random_layer(0.1, "shared")
    old, new = image("old", shared), image("new", shared)
    reference = fault_registry.add(old, "tool")
    store.pull(reference, None)
    fault_registry.add(new, "tool")
    info = store.pull(reference, None)

    assert (new.image_id, "new") == (info.id, content(store, reference)["word"])
    assert not store.exists(old.image_id, None)
    assert sorted([new.digest, *new.blobs()]) == blobs(store)
    assert 3 == fault_registry.count("layer")


def test_a_pull_with_nothing_to_do_asks_once(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """With HEAD, which registries do not count."""
    reference = fault_registry.add(image(), "tool")
    first = store.pull(reference, None)
    asked = fault_registry.count()
    second = store.pull(reference, None)

    assert first == second
    assert [("HEAD", "manifest")] == [(one.method, one.kind) for one in fault_registry.requests()[asked:]]


def test_layers_that_images_share_are_pulled_and_kept_once(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Most images of a team begin with the same ones."""
    shared = random_layer(0.1, "shared")
    references = [fault_registry.add(image(word, shared), f"tool{word}") for word in ("1", "2")]
    used = []
    for number, reference in enumerate(references):
        store.pull(reference, None)
        used.append(store.use(reference, None, f"user{number}"))

    assert 3 == fault_registry.count("layer")
    assert used[0].layers[1] == used[1].layers[1]
    assert used[0].layers[0] != used[1].layers[0]


def test_one_layer_may_be_in_an_image_twice(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Builders write the same empty layer again and again."""
    twice = files_layer({"/a": "a"})
    reference = fault_registry.add(image("1", twice, twice), "tool")
    store.pull(reference, None)

    assert 3 == len(store.use(reference, None, "user").layers)
    assert 2 == fault_registry.count("layer")


def test_what_lies_below_an_opaque_root_is_not_stacked(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Overlayfs would show it."""
    reference = fault_registry.add(image("1", files_layer({"/.wh..wh..opq": "", "/new": "n"})), "tool")
    store.pull(reference, None)

    assert {"new": "n"} == content(store, reference)


def test_layers_may_be_compressed_with_zstd(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Registries serve more and more of them."""
    plain = files_layer({"/z": "zstd"})
    packed = Layer(_zstd().compress(gzip.decompress(plain.data)), plain.diff_id)
    reference = fault_registry.add(image("1", packed), "tool")
    store.pull(reference, None)

    assert "zstd" == content(store, reference)["z"]


def test_the_store_is_nobody_elses(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Images may hold what others must not read, and files with any mode."""
    store.pull(fault_registry.add(image(), "tool"), None)
    root = store._disk.root
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (root, root / "l", root / "blobs")}

    assert {0o700} == modes
    assert os.geteuid() == root.stat().st_uid


def test_a_store_elsewhere_is_not_opened(tmp_path: Path) -> None:
    """Nothing is made before it is needed."""
    store = ImageStore(tmp_path / "a/b")

    assert store.exists("tool", None) is False
    assert [] == list(tmp_path.iterdir())


# -- Platforms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_of_several_platforms_this_machines_is_pulled(
    store: ImageStore, fault_registry: FaultRegistry, kind: str
) -> None:
    """An index is asked for what it has, and its digest is the one that the image is known by."""
    index = Index((image("foreign", platform=FOREIGN), image("own", format=kind)), kind)  # type: ignore[arg-type]
    reference = fault_registry.add(index, "tool")
    info = store.pull(reference, None)

    assert (OWN, "own") == (info.platform, content(store, reference)["word"])
    assert (f"{reference.removesuffix(':latest')}@{index.digest}",) == info.digests
    assert store.exists(info.digests[0], OWN)


def test_two_platforms_of_one_image_are_kept_side_by_side(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Whoever does not say which gets this machine's own."""
    index = Index((image("foreign", platform=FOREIGN), image("own")))
    reference = fault_registry.add(index, "tool")
    store.pull(reference, FOREIGN)
    alone = (store.exists(reference, None), store.exists(reference, OWN), store.exists(reference, FOREIGN))
    store.pull(reference, OWN)

    assert (True, False, True) == alone
    assert ["own", "own", "foreign"] == [content(store, reference, one)["word"] for one in (None, OWN, FOREIGN)]
    assert store.remove(reference)
    assert [] == blobs(store)


def test_an_image_of_another_platform_is_not_found_for_this(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """The error says for which one it is here."""
    reference = fault_registry.add(image(platform=FOREIGN), "tool")
    store.pull(reference, FOREIGN)

    with pytest.raises(ImageNotFoundError, match=FOREIGN):
        store.inspect(reference, OWN)


# -- Logging in -------------------------------------------------------------------------------------------------------


def logins(folder: Path, registry: str, **entry: str) -> DockerLogins:
    """Write the docker CLI's configuration with one entry."""
    (folder / "config.json").write_text(json.dumps({"auths": {registry: entry}}))
    return DockerLogins({"PATH": "/usr/bin:/bin"}, folder)


AUTH = base64.b64encode(b"me:s3cret").decode()


@pytest.mark.parametrize(
    "auth", [BasicAuth(username="me", password="s3cret"), TokenAuth(username="me", password="s3cret")]
)
def test_a_registry_is_asked_with_the_docker_clis_login(tmp_path: Path, auth: BasicAuth | TokenAuth) -> None:
    """Whichever way it wants to have it. Layers are asked for with what the manifest was asked with."""
    with FaultRegistry(auth=auth) as registry:
        store = ImageStore(tmp_path / "images", logins=logins(tmp_path, registry.address, auth=AUTH))
        reference = registry.add(image("1", random_layer(0.1, "a")), "team/tool")
        info = store.pull(reference, None)

        assert store.exists(info.id, None)
        assert (1 if isinstance(auth, TokenAuth) else 0) == registry.count("token")


def test_a_token_for_anybody_needs_no_login(store: ImageStore) -> None:
    """Docker Hub gives out tokens for public images."""
    with FaultRegistry(auth=TokenAuth()) as registry:
        assert store.pull(registry.add(image(), "tool"), None).id
        assert 1 == registry.count("token")


def test_an_identity_token_is_exchanged_for_a_token(tmp_path: Path) -> None:
    """With POST, as OAuth2 has it: it must not stand in the log of a proxy."""
    with FaultRegistry(auth=TokenAuth()) as registry:
        store = ImageStore(tmp_path / "images", logins=logins(tmp_path, registry.address, identitytoken="tok"))
        store.pull(registry.add(image(), "tool"), None)

        assert ["POST"] == [request.method for request in registry.requests("token")]


def test_a_token_that_expires_during_a_pull_is_renewed(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker Hub's last five minutes, and large layers longer."""
    with FaultRegistry(auth=TokenAuth()) as registry:
        reference = registry.add(image("1", random_layer(0.1, "a")), "tool")
        note, once = registry.note, iter([True])

        def expire(request: Request) -> None:
            if request.kind == "layer" and next(once, False):
                registry._tokens.clear()
            note(request)

        monkeypatch.setattr(registry, "note", expire)
        store.pull(reference, None)

        assert 2 <= registry.count("token") <= 3


@pytest.mark.parametrize("realm", ["http://registry.invalid/token", "ftp://x/token", "", "file:///etc/passwd"])
def test_a_login_is_not_sent_to_where_anybody_could_read_it(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, realm: str
) -> None:
    """The registry says where tokens are given out."""
    with FaultRegistry(auth=TokenAuth()) as registry:
        monkeypatch.setattr(registry, "challenge", lambda _: f'Bearer realm="{realm}",service="x"')
        with pytest.raises(ImagePullError, match="not safe") as failed:
            store.pull(registry.add(image(), "tool"), None)

    assert "unauthorized" == failed.value.reason


@pytest.mark.parametrize("entry", [{}, {"auth": base64.b64encode(b"me:m1staken").decode()}])
@pytest.mark.parametrize("kind", [BasicAuth, TokenAuth])
def test_a_wrong_login_is_refused_and_told(
    tmp_path: Path, kind: type[BasicAuth] | type[TokenAuth], entry: dict[str, str]
) -> None:
    """The hint says where the login came from; its secret is nowhere."""
    with FaultRegistry(auth=kind(username="me", password="s3cret")) as registry:
        store = ImageStore(tmp_path / "images", logins=logins(tmp_path, registry.address, **entry))
        reference = registry.add(image(), "tool")
        with pytest.raises(ImagePullError) as failed:
            store.pull(reference, None)

    assert ("unauthorized", False, reference) == (failed.value.reason, failed.value.retryable, failed.value.subject)
    assert ("config.json" if entry else "no login") in failed.value.hint
    assert "m1staken" not in str(failed.value) + failed.value.hint


def test_a_redirect_does_not_take_the_login_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries send for layers to hosts of others."""
    given = image("1", random_layer(0.1, "a"))
    with FaultRegistry(auth=BasicAuth(username="me", password="s3cret")) as registry, FaultRegistry() as other:
        store = ImageStore(tmp_path / "images", logins=logins(tmp_path, registry.address, auth=AUTH))
        seen: list[str] = []

        def admits(authorization: str, *, for_token: bool) -> bool:
            seen.append(authorization)
            return not for_token

        monkeypatch.setattr(other, "admits", admits)
        other.add(given, "tool")
        reference = registry.add(given, "tool")
        registry.fail("tool", Redirect(other.url))
        store.pull(reference, None)

    assert ["", ""] == seen


# -- Progress and resuming --------------------------------------------------------------------------------------------


def test_a_pull_tells_how_far_it_is(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """In every phase of every layer it goes forward, never past its total, and one event is the end."""
    given = image("1", random_layer(2, "a"))
    reference = fault_registry.add(given, "tool")
    events: list[ProgressEvent] = []
    store.pull(reference, None, progress=events.append)
    phases = {layer.digest.partition(":")[2][:12]: [] for layer in given.layers}  # type: ignore[var-annotated]
    for event in events:
        if event.layer and event.phase not in phases[event.layer]:
            phases[event.layer].append(event.phase)

    assert [["downloading", "verifying", "extracting", "done"]] * 2 == list(phases.values())
    assert {reference} == {event.image for event in events}
    assert ("resolving", "done") == (events[0].phase, events[-1].phase)
    assert 1 == sum((event.layer, event.phase) == ("", "done") for event in events)
    reached: dict[tuple[str, str], int] = {}
    for event in events:
        assert reached.get((event.layer, event.phase), 0) <= event.current <= (event.total or event.current)
        reached[event.layer, event.phase] = event.current


def test_what_the_callback_raises_ends_the_pull(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """And reaches the caller."""
    reference = fault_registry.add(image(), "tool")

    def refuse(_event: ProgressEvent) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        store.pull(reference, None, progress=refuse)

    assert not store.exists(reference, None)


def test_a_broken_download_is_resumed(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Where it broke off: what came before is not asked for again."""
    big = random_layer(1, "a")
    given = build_image(big, platform=OWN)
    reference = fault_registry.add(given, "tool")
    fault_registry.fail("tool", Truncated(times=1, after=500_000))
    events: list[ProgressEvent] = []
    store.pull(reference, None, progress=events.append)
    again = [event for event in events if event.phase == "retrying"]

    assert [(500_000, len(big.data))] == [(event.current, event.total) for event in again]
    assert 2 == fault_registry.count("layer")
    assert hashlib.sha256(big.data).hexdigest() in "".join(blobs(store))


def test_the_next_pull_goes_on_with_what_is_there(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Also one that another process began."""
    big = random_layer(1, "a")
    reference = fault_registry.add(build_image(big, platform=OWN), "tool")
    fault_registry.fail("tool", Truncated(after=700_000, times=1))
    fault_registry.fail("tool", Truncated(after=0))
    with pytest.raises(ImagePullError):
        store.pull(reference, None)
    fault_registry.heal("tool")
    events: list[ProgressEvent] = []
    ImageStore(store._disk.root).pull(reference, None, progress=events.append)
    first = next(event for event in events if event.phase == "downloading")

    assert first.current > 700_000


def test_damaged_remains_are_not_gone_on_with(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """After a power failure a file may hold anything."""
    big = random_layer(0.2, "a")
    reference = fault_registry.add(build_image(big, platform=OWN), "tool")
    store._disk.make()
    (store._disk.partial / big.digest.replace(":", "-")).write_bytes(b"junk" * 1000)
    store.pull(reference, None)

    assert 2 == fault_registry.count("layer")


def test_two_pulls_of_one_layer_download_it_once(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """The other one waits, tells so, and shares what came."""
    shared = random_layer(0.5, "shared")
    references = [
        fault_registry.add(build_image(shared, files_layer({"/w": str(n)}), platform=OWN), f"t{n}") for n in (1, 2)
    ]
    slow = fault_registry.fail("t1", Slow(2_000_000))
    events: list[ProgressEvent] = []
    ends: list[str] = []
    first = threading.Thread(target=lambda: ends.append(store.pull(references[0], None).id))
    first.start()
    assert slow.reached.wait(10)
    ends.append(ImageStore(store._disk.root).pull(references[1], None, progress=events.append).id)
    first.join()

    assert 3 == fault_registry.count("layer")
    assert 2 == len(ends)
    assert "waiting" in {event.phase for event in events}


# -- As an ordinary user ----------------------------------------------------------------------------------------------


def test_an_ordinary_user_has_a_store(
    ordinary_user: Order | None, fault_registry: FaultRegistry, user_folder: Callable[[], Path]
) -> None:
    """With all that root's has: whiteouts, opaque directories, layers ready to be stacked."""
    if ordinary_user is None:
        pytest.skip("the tests are run by an ordinary user already")
    given = image("1", files_layer({"/.wh.word": "", "/d/.wh..wh..opq": ""}))
    answer = ordinary_user(what="pull", root=str(user_folder() / "images"), image=fault_registry.add(given, "tool"))

    assert given.image_id == answer.get("id"), answer
    assert [True, True] == [Path(layer).is_dir() for layer in answer["layers"]]


# -- A registry of others ---------------------------------------------------------------------------------------------


def test_the_reference_registry_serves_us(store: ImageStore, images: ImageMaker) -> None:
    """Distribution's own, with an index and several layers, by tag and by digest; and what it does not have."""
    own, foreign = (
        images.make(layers=[random_layer(0.5, "a")], format="oci"),
        images.make(platform=FOREIGN, format="oci"),
    )
    pushed = images.push_made(Index((foreign, own), "oci"))
    info = store.pull(pushed.reference, None)
    name = pushed.reference.rpartition(":")[0]

    assert own.image_id == info.id == store.pull(f"{name}@{own.digest}", None).id
    assert "bin/busybox" in content(store, pushed.reference)
    for absent in (f"{name}:absent", f"{name}-absent:latest", f"{name}@sha256:{'0' * 64}"):
        with pytest.raises(ImagePullError) as failed:
            store.pull(absent, None)
        assert ("not_found", absent) == (failed.value.reason, failed.value.subject)
