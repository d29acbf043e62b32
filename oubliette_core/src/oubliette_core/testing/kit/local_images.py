"""Images that are here: asking for them, removing, keeping in archives, building."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from oubliette_core.errors import (
    ImageBuildError,
    ImageNotFoundError,
    ImagePullError,
    InUseError,
)
from oubliette_core.models import BuildSpec, Cancel
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import Image, Index, docker_archive
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.calls import SLACK, bounded, eventually, start
from oubliette_core.testing.kit.stage import FOREIGN_PLATFORM, Maker, Stage, unique


class ImageCases(Cases):
    """exists and inspect_image."""

    def test_images_exists_absent(self, runtime: Runtime, make: Maker) -> None:
        assert runtime.exists(make.absent()) is False

    def test_images_exists_no_network(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        here, only_there = make.pulled(), make.publish(name="there")
        before = stage.registry.count()
        found = [runtime.exists(one.reference) for one in (here, only_there)]

        assert [True, False] == found
        assert before == stage.registry.count()

    def test_images_exists_whole_name(self, runtime: Runtime, make: Maker) -> None:
        published = make.pulled(tag="v1.2")
        near = ("v1", "v1.2.3", "latest")
        others = [f"{published.name}:{tag}" for tag in near] + [f"{published.name}x:v1.2"]

        assert [False] * 4 == [runtime.exists(reference) for reference in others]

    def test_images_exists_platform(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish(Index((stage.image(platform=FOREIGN_PLATFORM),)))
        make.pull(published.reference, platform=FOREIGN_PLATFORM)

        assert runtime.exists(published.reference, platform=FOREIGN_PLATFORM)
        assert not runtime.exists(published.reference, platform=stage.platform)
        with pytest.raises(ImageNotFoundError):
            runtime.inspect_image(published.reference, platform=stage.platform)

    def test_images_exists_own_platform(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.pulled()

        assert runtime.exists(published.reference, platform=stage.platform)
        assert not runtime.exists(published.reference, platform=FOREIGN_PLATFORM)

    def test_images_inspect_fields(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        created = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
        image = stage.image(labels={"kit": "a b=c"}, created="2024-02-29T12:30:00Z")
        published = make.pulled(image)
        info = runtime.inspect_image(published.reference)

        assert published.reference in info.references
        assert published.by_digest in info.digests
        assert ("a b=c", created) == (info.labels["kit"], info.created_at)
        assert stage.platform == "/".join(info.platform.split("/")[:2])
        assert info.size > 0

    def test_images_inspect_every_reference(self, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        expected = make.pull(published.reference)
        references = (published.reference, published.name, published.by_digest, expected.id)
        found = [runtime.inspect_image(reference).id for reference in references]

        assert [expected.id] * 4 == found
        assert [True] * 4 == [runtime.exists(reference) for reference in references]

    def test_images_inspect_absent(self, runtime: Runtime, make: Maker) -> None:
        absent = make.absent()
        with pytest.raises(ImageNotFoundError) as failed:
            runtime.inspect_image(absent)

        assert (absent, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_images_inspect_no_network(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        here, only_there = make.pulled(), make.publish(name="there")
        before = stage.registry.count()
        runtime.inspect_image(here.reference)
        with pytest.raises(ImageNotFoundError):
            runtime.inspect_image(only_there.reference)

        assert before == stage.registry.count()


class ImageRemovalCases(Cases):
    """remove_image."""

    def test_images_remove(self, runtime: Runtime, make: Maker) -> None:
        published = make.pulled()
        answers = [runtime.remove_image(published.reference) for _ in range(2)]

        assert [True, False] == answers
        assert not runtime.exists(published.reference)

    def test_images_remove_one_reference(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        image = stage.image()
        one, other = make.pulled(image, tag="one"), make.pulled(image, tag="other")
        runtime.remove_image(one.reference)

        assert (False, True) == (runtime.exists(one.reference), runtime.exists(other.reference))

    def test_images_remove_in_use(self, runtime: Runtime, make: Maker) -> None:
        published = make.pulled()
        make.created(image=published.reference)
        with pytest.raises(InUseError) as failed:
            runtime.remove_image(published.reference)

        assert (published.reference, runtime.name) == (failed.value.subject, failed.value.runtime)
        assert runtime.exists(published.reference)


class ImageArchiveCases(Cases):
    """load_images and save_images."""

    def test_images_load(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        reference, image = _local_name(make), stage.image(labels={"kit": "loaded"})
        loaded = runtime.load_images(_archive(stage, reference, image))

        assert [runtime.inspect_image(reference).id] == [info.id for info in loaded]
        assert "loaded" == loaded[0].labels["kit"]

    def test_images_load_no_network(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        reference = _local_name(make)
        before = stage.registry.count()
        runtime.load_images(_archive(stage, reference, stage.image()))

        assert runtime.exists(reference.removesuffix(":latest"))
        assert "here" == make.running(image=reference).says("echo here")
        assert before == stage.registry.count()

    def test_images_load_corrupt(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        reference = _local_name(make)
        archive = _archive(stage, reference, stage.image())
        whole = archive.read_bytes()
        archive.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ImagePullError) as failed:
            runtime.load_images(archive)

        assert "corrupt" == failed.value.reason
        assert not runtime.exists(reference)

    def test_images_save_and_load(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        expected = make.pull(published.reference).id
        archive = stage.folder / f"saved-{unique()}.tar"
        saved = runtime.save_images((published.reference,), archive)
        runtime.remove_image(published.reference)
        gone = not runtime.exists(published.reference)
        runtime.load_images(archive)

        assert (archive, True) == (saved, gone)
        assert expected == runtime.inspect_image(published.reference).id

    def test_images_save_absent(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        folder = stage.folder / f"saved-{unique()}"
        folder.mkdir()
        with pytest.raises(ImageNotFoundError):
            runtime.save_images((stage.base, make.absent()), folder / "saved.tar")

        assert [] == list(folder.iterdir())


class BuildCases(Cases):
    """build."""

    def test_images_build(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        steps = 'ARG WORD\nCOPY given /given\nRUN echo "$WORD" > /built\n'
        spec = _build(stage, make, steps, build_args={"WORD": "a $word"}, labels={"kit": "built"})
        info = runtime.build(spec)
        box = make.running(image=spec.tag)

        assert info.id == runtime.inspect_image(spec.tag).id
        assert "built" == info.labels["kit"]
        assert "a $word given" == box.says("echo $(cat /built /given)")

    def test_images_build_fails(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        spec = _build(stage, make, "RUN echo what went wrong; exit 3\n")
        with pytest.raises(ImageBuildError) as failed:
            runtime.build(spec)

        assert "what went wrong" in failed.value.output
        assert not runtime.exists(spec.tag)

    def test_images_build_cancel(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        # Only what it prints has the word in one piece: engines also tell which step comes next.
        spec = _build(stage, make, 'RUN echo be""gun; sleep 1000\n')
        begun: list[str] = []
        cancel = Cancel()
        build = start(lambda: runtime.build(spec, progress=lambda event: begun.append(event.detail), cancel=cancel))

        assert eventually(lambda: any("begun" in line for line in begun), 30)
        cancel.cancel()
        outcome = bounded(lambda: build.outcome(30), 2 + SLACK, "a cancelled build")

        assert isinstance(outcome, ImageBuildError)
        assert not runtime.exists(spec.tag)


def _local_name(make: Maker) -> str:
    """Give the reference of an image that no registry has."""
    return make.remove_later(f"kit-local-{unique()}:latest")


def _archive(stage: Stage, reference: str, image: Image) -> Path:
    path = stage.folder / f"archive-{unique()}.tar"
    path.write_bytes(docker_archive({reference: image}))
    return path


def _build(stage: Stage, make: Maker, steps: str, **fields: dict[str, str]) -> BuildSpec:
    context = stage.folder / f"build-{unique()}"
    context.mkdir()
    (context / "given").write_text("given\n", encoding="ascii")
    (context / "Dockerfile").write_text(f"FROM {stage.base}\n{steps}", encoding="ascii")
    return BuildSpec(context=context, tag=_local_name(make), **fields)  # type: ignore[arg-type]
