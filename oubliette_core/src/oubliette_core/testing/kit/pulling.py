"""Pulling images: what is there afterwards, and what was not touched when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import ImagePullError, InvalidReferenceError, OublietteError
from oubliette_core.models import ImageInfo
from oubliette_core.runtime import Runtime
from oubliette_core.testing.faults import Corrupt, Junk, Status, Truncated
from oubliette_core.testing.images import Index, random_layer
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.calls import together
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import FOREIGN_PLATFORM, Maker, Published, Stage, unique

if TYPE_CHECKING:
    from oubliette_core.errors import PullFailure
    from oubliette_core.testing.faults import Fault

_TRUNCATED_AFTER = 20.0
INVALID_REFERENCES = (
    "",
    " ",
    "-",
    "--privileged",
    "Upper/case",
    "http://registry.example/app",
    "app tag",
    "app:tag:tag",
    "app;reboot",
    "$(reboot)",
    "`reboot`",
    "app\nother",
    "../../etc/app",
    "app@sha256:short",
    "a" * 64,
    "a" * 300,
)


class PullingCases(Cases):
    """pull, when nothing is in its way but the registry."""

    def test_images_pull_by_tag(self, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        before = runtime.exists(published.reference)
        info = make.pull(published.reference)

        assert (False, True) == (before, runtime.exists(published.reference))
        assert info.id
        assert info.size > 0

    def test_images_pull_default_tag(self, runtime: Runtime, make: Maker) -> None:
        published = make.publish(tag="latest")
        make.publish(tag="other")
        make.pull(published.name)
        found = [runtime.exists(f"{published.name}{tag}") for tag in ("", ":latest", ":other")]

        assert [True, True, False] == found

    def test_images_pull_by_digest(self, runtime: Runtime, make: Maker) -> None:
        published = make.publish(tag="latest")
        info = make.pull(published.by_digest)

        assert runtime.exists(published.by_digest)
        assert not runtime.exists(published.reference)
        assert info.id == runtime.inspect_image(published.by_digest).id

    def test_images_pull_digest_wins(self, runtime: Runtime, make: Maker) -> None:
        old = make.publish(tag="v1")
        make.publish(tag="v1")
        by_both = f"{old.reference}@{old.image.digest}"
        info = make.pull(by_both)

        assert info.id == runtime.inspect_image(by_both).id
        assert info.id == make.pull(old.by_digest).id

    def test_images_pull_same_id_everywhere(self, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        pulled = make.pull(published.reference).id
        container = runtime.inspect(make.created(image=published.reference).id)

        assert pulled == runtime.inspect_image(published.reference).id
        assert pulled == container.image_id

    def test_images_pull_own_platform(self, stage: Stage, make: Maker) -> None:
        own, foreign = stage.image(), stage.image(platform=FOREIGN_PLATFORM)
        published = make.publish(Index((foreign, own)))
        info = make.pull(published.reference)

        assert stage.platform == "/".join(info.platform.split("/")[:2])
        assert own.platform == stage.platform
        assert "0" == make.running("/bin/sh", "-c", "sleep 1000", image=published.reference).says("echo $?")

    def test_images_pull_other_platform(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish(Index((stage.image(), stage.image(platform=FOREIGN_PLATFORM))))
        info = make.pull(published.reference, platform=FOREIGN_PLATFORM)

        assert info.platform == FOREIGN_PLATFORM
        assert FOREIGN_PLATFORM == runtime.inspect_image(published.reference, platform=FOREIGN_PLATFORM).platform

    def test_images_pull_up_to_date(self, stage: Stage, make: Maker) -> None:
        published = make.publish()
        first = make.pull(published.reference)
        layers = stage.registry.count("layer", repository=published.repository)
        second = make.pull(published.reference)

        assert first.id == second.id
        assert layers == stage.registry.count("layer", repository=published.repository)

    def test_images_pull_refresh(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        old = make.publish(stage.image(labels={"version": "1"}))
        first = make.pull(old.reference)
        user = make.running(image=old.reference)
        make.publish(stage.image(labels={"version": "2"}))
        second = make.pull(old.reference)

        assert first.id != second.id
        assert ("1", "2") == (first.labels["version"], second.labels["version"])
        assert second.id == runtime.inspect_image(old.reference).id
        assert first.id == user.inspect().image_id
        assert "still here" == user.says("echo still here")

    def test_images_pull_together_same(self, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        outcomes = together([lambda: make.pull(published.reference)] * 4)
        expected = runtime.inspect_image(published.reference).id

        assert [expected] * 4 == [_id(outcome) for outcome in outcomes]

    def test_images_pull_together_different(self, runtime: Runtime, make: Maker) -> None:
        published = [make.publish(name=f"app{number}") for number in range(4)]
        outcomes = together([lambda one=one: make.pull(one.reference) for one in published])  # type: ignore[misc]
        found = [runtime.inspect_image(one.reference).id for one in published]

        assert found == [_id(outcome) for outcome in outcomes]
        assert 4 == len(set(found))

    def test_images_pull_invalid_reference(self, stage: Stage, runtime: Runtime) -> None:
        relay = Relay(runtime)
        face = relay.face()
        before = stage.registry.count()
        for reference in INVALID_REFERENCES:
            for call in (face.pull, face.exists, face.inspect_image):
                with pytest.raises(InvalidReferenceError):
                    call(reference)

        assert [] == relay.calls
        assert before == stage.registry.count()


class FailedPullCases(Cases):
    """pull, when the registry answers badly: the class of the failure, and the old image."""

    def test_images_pull_no_repository(self, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, make.absent(), "not_found", retryable=False)

    def test_images_pull_no_tag(self, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, f"{make.publish().name}:absent", "not_found", retryable=False)

    def test_images_pull_no_digest(self, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, f"{make.publish().name}@sha256:{'0' * 64}", "not_found", retryable=False)

    def test_images_pull_unauthorized(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Status(401)), "unauthorized", retryable=False)

    def test_images_pull_denied(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Status(403)), "unauthorized", retryable=False)

    def test_images_pull_rate_limited(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        stage.registry.fail(published.repository, Status(429))
        _fails(runtime, published.reference, "rate_limited", retryable=True)
        asked = [
            stage.registry.count("manifest", repository=published.repository, method=method)
            for method in ("HEAD", "GET")
        ]

        # An engine may look with HEAD before it asks with GET; each of them once.
        assert sum(asked) >= 1
        assert max(asked) == 1

    def test_images_pull_server_error(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Status(500)), "unreachable", retryable=True)

    def test_images_pull_unavailable(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Status(503)), "unreachable", retryable=True)

    def test_images_pull_no_registry(self, stage: Stage, runtime: Runtime) -> None:
        _fails(runtime, f"{stage.nowhere()}/kit/app:latest", "unreachable", retryable=True)

    def test_images_pull_portal(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        reference = _faulty(stage, make, Junk())
        with pytest.raises(ImagePullError) as failed:
            runtime.pull(reference)

        assert reference == failed.value.subject
        assert not runtime.exists(reference)

    def test_images_pull_error_in_stream(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Status(403, on="layer")), "unauthorized", retryable=False)

    def test_images_pull_layer_rate_limited(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Status(429, on="layer")), "rate_limited", retryable=True)

    def test_images_pull_corrupt_layer(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        _fails(runtime, _faulty(stage, make, Corrupt()), "corrupt")

    def test_images_pull_truncated_layer(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = _big(stage, make)
        stage.registry.fail(published.repository, Truncated())
        with pytest.raises(OublietteError):
            make.pull(published.reference, timeout=_TRUNCATED_AFTER)

        assert not runtime.exists(published.reference)

    def test_images_pull_keeps_old_image(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        old = make.publish()
        expected = make.pull(old.reference).id
        _big(stage, make)
        stage.registry.fail(old.repository, Corrupt())
        with pytest.raises(ImagePullError):
            make.pull(old.reference)

        assert expected == runtime.inspect_image(old.reference).id
        assert expected == make.running(image=old.reference).inspect().image_id

    def test_images_pull_refused_keeps_old_image(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        old = make.publish()
        expected = make.pull(old.reference).id
        make.publish()
        stage.registry.fail(old.repository, Status(500))
        with pytest.raises(ImagePullError):
            make.pull(old.reference)

        assert expected == runtime.inspect_image(old.reference).id

    def test_images_pull_no_platform(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish(Index((stage.image(platform=FOREIGN_PLATFORM),)))
        _fails(runtime, published.reference, "no_platform", retryable=False)

    def test_images_pull_platform_not_offered(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish(Index((stage.image(),)))
        with pytest.raises(ImagePullError) as failed:
            make.pull(published.reference, platform=FOREIGN_PLATFORM)

        assert "no_platform" == failed.value.reason
        assert FOREIGN_PLATFORM in str(failed.value)
        assert not runtime.exists(published.reference)

    def test_images_pull_after_failure(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        stage.registry.fail(published.repository, Status(503))
        _fails(runtime, published.reference, "unreachable", retryable=True)
        stage.registry.heal(published.repository)
        info = make.pull(published.reference)

        assert info.id == runtime.inspect_image(published.reference).id


def _id(outcome: ImageInfo | Exception) -> object:
    return outcome.id if isinstance(outcome, ImageInfo) else outcome


def _big(stage: Stage, make: Maker) -> Published:
    """Publish an image whose second layer is nobody else's and is worth a few packets."""
    return make.publish(stage.image(random_layer(0.25, unique())))


def _faulty(stage: Stage, make: Maker, fault: Fault) -> str:
    """Publish an image that the registry serves badly."""
    published = make.publish()
    stage.registry.fail(published.repository, fault)
    return published.reference


def _fails(runtime: Runtime, reference: str, reason: PullFailure, *, retryable: bool | None = None) -> None:
    """Pull, and see it fail with the right class, about the right image, leaving nothing behind."""
    with pytest.raises(ImagePullError) as failed:
        runtime.pull(reference)
    error = failed.value

    assert (reason, reference, runtime.name) == (error.reason, error.subject, error.runtime)
    assert retryable in (None, error.retryable)
    assert not runtime.exists(reference)
