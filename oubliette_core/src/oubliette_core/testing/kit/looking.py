"""Looking at containers: one, and all that carry a label."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from oubliette_core.errors import ContainerNotFoundError, OublietteError
from oubliette_core.models import LABEL_HOME, ContainerStatus, ExecSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.stage import Maker, Stage


class InspectCases(Cases):
    """inspect."""

    def test_inspect_fields(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        info = make.running(name=name, labels={"kit": "fields"}).inspect()

        assert info.id
        assert (name, stage.base) == (info.name, info.image)
        assert runtime.inspect_image(stage.base).id == info.image_id
        assert (ContainerStatus.RUNNING, True, None) == (info.status, info.running, info.exit_code)
        assert "fields" == info.labels["kit"]
        assert () == info.not_enforced

    def test_inspect_times(self, runtime: Runtime, make: Maker) -> None:
        container = make.created()
        fresh, started = runtime.inspect(container.id), runtime.start(container.id)

        assert fresh.started_at is None
        assert _in_utc(fresh.created_at), fresh.created_at
        assert _in_utc(started.started_at), started.started_at
        assert fresh.created_at == runtime.inspect(container.id).created_at

    def test_inspect_by_name(self, runtime: Runtime, make: Maker) -> None:
        container = make.created(name=make.name())

        assert runtime.inspect(container.id) == runtime.inspect(container.name)

    def test_inspect_same_from_every_call(self, runtime: Runtime, make: Maker) -> None:
        created = make.created(labels={"kit": "same"})
        seen = runtime.inspect(created.id)
        started = runtime.start(created.id)
        stopped = runtime.stop(created.id, grace=0)

        for info in (created, started, stopped):
            assert (seen.id, seen.name, seen.image, seen.image_id) == (info.id, info.name, info.image, info.image_id)
            assert seen.labels == info.labels
        assert stopped == runtime.inspect(created.id)

    def test_inspect_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        with pytest.raises(ContainerNotFoundError) as failed:
            runtime.inspect(name)

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_inspect_no_prefix(self, runtime: Runtime, make: Maker) -> None:
        info = make.running(name=make.name()).inspect()
        prefixes = (info.id[:12], info.id[:-1], info.name[:-1], info.name[:8])
        for prefix in prefixes:
            for call in (runtime.inspect, runtime.start, runtime.stop):
                with pytest.raises(ContainerNotFoundError):
                    call(prefix)
            with pytest.raises(ContainerNotFoundError):
                runtime.exec(prefix, ExecSpec(command=("/bin/true",)))

        assert [False] * 4 == [runtime.remove(prefix, force=True) for prefix in prefixes]
        assert runtime.inspect(info.id).running

    def test_inspect_no_secrets(self, runtime: Runtime, make: Maker) -> None:
        canary = "canary-3f9c0d"
        spec = make.spec("/no/such/command", env={"TOKEN": canary})
        container = runtime.create(spec)
        shown = [repr(spec), repr(container), repr(runtime.inspect(container.id)), repr(make.listed())]
        for call in (
            lambda: runtime.start(container.id),
            lambda: runtime.exec(container.id, ExecSpec(command=("/bin/true",), env={"TOKEN": canary})),
        ):
            with pytest.raises(OublietteError) as failed:
                call()
            shown += [str(failed.value), repr(failed.value.hint), repr(vars(failed.value))]

        assert [] == [text for text in shown if canary in text]


class ListCases(Cases):
    """list_containers."""

    def test_list_by_label(self, make: Maker) -> None:
        wanted = {make.created(labels={"kit.colour": "red"}).id, make.running(labels={"kit.colour": "red"}).id}
        make.created(labels={"kit.colour": "blue"})
        make.created()

        assert wanted == {info.id for info in make.listed({"kit.colour": "red"})}

    def test_list_by_all_labels(self, make: Maker) -> None:
        both = make.created(labels={"kit.colour": "red", "kit.size": "big"}).id
        make.created(labels={"kit.colour": "red", "kit.size": "small"})
        make.created(labels={"kit.size": "big"})

        assert [both] == [info.id for info in make.listed({"kit.colour": "red", "kit.size": "big"})]

    def test_list_exact_value(self, make: Maker) -> None:
        exact = make.created(labels={"kit.word": "a"}).id
        for other in ("ab", "", "A", "a=b", " a"):
            make.created(labels={"kit.word": other})

        assert [exact] == [info.id for info in make.listed({"kit.word": "a"})]

    def test_list_odd_value(self, make: Maker) -> None:
        value = 'a=b, "c" {d}'
        odd = make.created(labels={"kit.word": value}).id

        assert [(odd, value)] == [(one.id, one.labels["kit.word"]) for one in make.listed({"kit.word": value})]

    def test_list_empty(self, runtime: Runtime, make: Maker) -> None:
        make.created()

        assert () == runtime.list_containers({LABEL_HOME: make.name()})

    def test_list_stopped(self, runtime: Runtime, make: Maker) -> None:
        created, stopped, running = make.created().id, runtime.stop(make.running().id, grace=0).id, make.running().id

        assert {created, stopped, running} == {info.id for info in make.listed()}
        assert [running] == [info.id for info in make.listed(running_only=True)]

    def test_list_all(self, runtime: Runtime, make: Maker) -> None:
        mine = {make.created().id, make.running().id}

        assert mine <= {info.id for info in runtime.list_containers()}

    def test_list_fields(self, make: Maker) -> None:
        name = make.name()
        seen = make.running(name=name, labels={"kit": "fields"}).inspect()
        [info] = make.listed()

        assert (seen.id, name, seen.image, seen.status) == (info.id, info.name, info.image, info.status)
        assert seen.labels == info.labels
        assert _in_utc(info.created_at), info.created_at

    def test_list_many(self, make: Maker) -> None:
        wanted = {make.created().id for _ in range(12)}

        assert wanted == {info.id for info in make.listed()}

    def test_list_in_step(self, runtime: Runtime, make: Maker) -> None:
        container = make.created().id
        seen = []
        for act in (runtime.start, lambda name: runtime.stop(name, grace=0), runtime.remove):
            act(container)
            seen.append([(info.id, info.running) for info in make.listed()])

        assert [[(container, True)], [(container, False)], []] == seen


def _in_utc(moment: datetime | None) -> bool:
    """Tell whether a time knows its zone, is in UTC, and is not a relic such as the year 1."""
    return moment is not None and moment.utcoffset() == UTC.utcoffset(None) and moment.year > 2000
