"""The lock: with it, every machine and every day gets the same image, or an error that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core import ConfigError, ContainerType, ImageNotFoundError, PullPolicy, RuntimeSettings, build_runtime
from oubliette_core.images import ImageAction, ImageManager, Patience
from oubliette_core.images.lockfile import read_lock
from oubliette_core.testing.fake import FakeRuntime

IMAGE, OTHER = "example.com/tools:1", "example.com/other:1"
TYPES = (
    ContainerType(name="base", image=IMAGE),
    ContainerType(name="other", image=OTHER),
    ContainerType(name="local", image="example.com/built-here", pull=PullPolicy.NEVER),
)


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    """A runtime whose registry has both images."""
    fake = FakeRuntime(RuntimeSettings())
    fake.registry.publish(IMAGE)
    fake.registry.publish(OTHER)
    yield fake
    fake.engine.shut_down()


def _manager(
    fake: FakeRuntime, home: Path, types: tuple[ContainerType, ...] = TYPES, *, dev_mode: bool = False
) -> ImageManager:
    return ImageManager(
        build_runtime("fake", fake),
        types,
        locks_dir=home / "locks",
        lock_file=home / "oubliette.lock",
        dev_mode=dev_mode,
        patience=Patience(attempts=1),
    )


def test_all_types_that_are_pulled_are_held_to_a_digest(fake: FakeRuntime, tmp_path: Path) -> None:
    """Later pulls are by digest, whatever the tag has become, and also after the image was lost."""
    digest = fake.registry.publish(IMAGE, "1")
    images = _manager(fake, tmp_path)
    outcomes = images.lock()
    locked = images.ensure_image_exists("base")
    fake.registry.publish(IMAGE, "2")
    again = images.pull("base")

    assert ["base", "other"] == [outcome.type for outcome in outcomes]
    assert f"{IMAGE}@{digest}" == images.get_image_name("base") == again.image
    assert (locked.id, ImageAction.UNCHANGED) == (again.id, again.action)
    assert "example.com/built-here:latest" == images.get_image_name("local")

    for name in (IMAGE, f"example.com/tools@{digest}"):
        fake.engine.images.remove(name, lambda image: None)

    assert locked.id == images.ensure_image_exists("base").id


def test_only_update_moves_it(fake: FakeRuntime, tmp_path: Path) -> None:
    """Locking again changes nothing about what is locked."""
    images = _manager(fake, tmp_path)
    images.lock()
    before = images.get_image_name("base")
    digest = fake.registry.publish(IMAGE, "2")

    assert () == images.lock()
    assert before == images.get_image_name("base")
    assert all(outcome.ok for outcome in images.lock(update=True))
    assert f"{IMAGE}@{digest}" == images.get_image_name("base")


def test_a_type_that_is_configured_anew_has_to_be_locked(fake: FakeRuntime, tmp_path: Path) -> None:
    """Nothing is pulled for it by tag; locking takes it in, leaves the others, and drops what is gone."""
    _manager(fake, tmp_path, TYPES[:2]).lock()
    changed = (ContainerType(name="base", image=OTHER), ContainerType(name="new", image=IMAGE))
    images = _manager(fake, tmp_path, changed)
    fake.registry.requests.clear()

    for name in ("base", "new"):
        with pytest.raises(ConfigError, match=f"container type {name} is not locked") as caught:
            images.ensure_image_exists(name)
        assert "Lock it: oubliette image lock" == caught.value.hint
        with pytest.raises(ConfigError):
            images.runnable(name)
    assert {} == dict(fake.registry.requests)

    images.lock()
    lock = read_lock(tmp_path / "oubliette.lock")
    assert lock is not None
    assert ["base", "new"] == list(lock.images)


def test_a_failure_leaves_the_lock_as_it_was(fake: FakeRuntime, tmp_path: Path) -> None:
    """Half a lock would hold some types and not others."""
    images = _manager(fake, tmp_path)
    images.lock()
    before = (tmp_path / "oubliette.lock").read_bytes()
    fake.registry.withdraw(OTHER)
    fake.registry.publish(IMAGE, "2")

    assert [True, False] == [outcome.ok for outcome in images.lock(update=True)]
    assert before == (tmp_path / "oubliette.lock").read_bytes()


def test_an_image_without_a_digest_cannot_be_locked(fake: FakeRuntime, tmp_path: Path) -> None:
    """One that was built here is not what a registry has."""
    fake.engine.add_image(IMAGE)
    outcomes = _manager(fake, tmp_path, TYPES[:1]).lock()

    assert isinstance(outcomes[0].error, ImageNotFoundError)
    assert not (tmp_path / "oubliette.lock").exists()


def test_dev_mode_knows_no_lock(fake: FakeRuntime, tmp_path: Path) -> None:
    """Images are built here, and have no digest."""
    _manager(fake, tmp_path).lock()

    assert IMAGE == _manager(fake, tmp_path, dev_mode=True).get_image_name("base")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "images": {}}',
        '{"version": 1, "images": []}',
        '{"version": 1, "images": {"base": {"image": "x", "platform": null, "digest": "latest"}}}',
        '{"version": 1, "images": {"base": {"image": "../x", "platform": null, "digest": "sha256:0"}}}',
    ],
)
def test_a_damaged_lock_is_an_error(fake: FakeRuntime, tmp_path: Path, text: str) -> None:
    """Passing it over would pull by tag what somebody wanted held."""
    (tmp_path / "oubliette.lock").write_text(text)

    with pytest.raises(ConfigError, match="cannot be used"):
        _manager(fake, tmp_path).ensure_image_exists("base")
