"""Runtimes that are wrong about containers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path

import attrs

from oubliette_core.errors import (
    ContainerNotRunningError,
    NameConflictError,
    RuntimeOperationError,
    StartFailedError,
)
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
    LABEL_NOT_ENFORCED,
    ContainerInfo,
    ContainerSpec,
    ContainerStatus,
)
from tests.conformance.saboteurs.base import Saboteur


class ForgetsLabels(Saboteur):
    """Makes containers without labels."""

    caught_by = ("containers.create-attributes", "list.by-label")

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        return super().create(attrs.evolve(spec, labels={}))


class ForgetsWhatIsNotEnforced(Saboteur):
    """Loses the label that says what is not in force."""

    caught_by = ("honesty.preferred-listed",)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        info = super().inspect(container)
        return attrs.evolve(info, labels={k: v for k, v in info.labels.items() if k != LABEL_NOT_ENFORCED})


class MakesSources(Saboteur):
    """Makes the directory that was to be mounted."""

    caught_by = ("containers.bind-missing",)

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        for mount in spec.mounts:
            Path(mount.source).mkdir(parents=True, exist_ok=True)
        return super().create(spec)


class AdoptsStrangers(Saboteur):
    """Gives the container that has the name already."""

    caught_by = ("containers.create-name-taken", "containers.create-race")

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        try:
            return super().create(spec)
        except NameConflictError:
            return self.inspect(spec.name or "")


class ReplacesStrangers(Saboteur):
    """Removes the container that has the name already."""

    caught_by = ("containers.create-name-taken",)

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        if spec.name:
            super().remove(spec.name, force=True)
        return super().create(spec)


class WritableBinds(Saboteur):
    """Mounts everything writable."""

    caught_by = ("containers.bind-read-only",)

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        mounts = tuple(attrs.evolve(mount, read_only=False) for mount in spec.mounts)
        return super().create(attrs.evolve(spec, mounts=mounts))


class StartsTooEarly(Saboteur):
    """Returns from start before the process is there."""

    caught_by = ("containers.start", "containers.start-alive")

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        info = super().inspect(container)
        late = threading.Timer(1.0, self._start_late, (container,))
        late.daemon = True
        late.start()
        return attrs.evolve(info, status=ContainerStatus.RUNNING)

    def _start_late(self, container: str) -> None:
        with contextlib.suppress(RuntimeOperationError):  # it may be gone by then
            super().start(container)


class BelievesStarts(Saboteur):
    """Takes a process that has ended at once for one that runs."""

    caught_by = ("containers.start-exits", "containers.start-no-command")

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        try:
            return super().start(container)
        except StartFailedError:
            return attrs.evolve(super().inspect(container), status=ContainerStatus.RUNNING)


class StopsOnce(Saboteur):
    """Fails when what is to be stopped does not run."""

    caught_by = ("containers.stop-twice", "containers.stop-created")

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        if not super().inspect(container).running:
            raise ContainerNotRunningError("it does not run", runtime="fake", subject=container)
        return super().stop(container, grace)


class KillsAtOnce(Saboteur):
    """Has no patience with a process that is to stop."""

    caught_by = ("containers.stop", "containers.stop-kills")

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        self.engine.container(container).kill()
        return super().stop(container, 0)


class RemovesOnce(Saboteur):
    """Fails when what is to be removed is not there."""

    caught_by = ("containers.remove-twice", "containers.remove-unknown")

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        super().inspect(container)
        return super().remove(container, force)


class RemovesRunning(Saboteur):
    """Removes what runs, also without force."""

    caught_by = ("containers.remove-in-use",)

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        return super().remove(container, force=True)


class Prefixes(Saboteur):
    """Takes the beginning of an id or a name for the whole."""

    caught_by = ("inspect.no-prefix",)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        for each in self.engine.containers():
            if each.id.startswith(container) or each.name.startswith(container):
                return each.info()
        return super().inspect(container)


class NaiveTimes(Saboteur):
    """Gives times without a time zone."""

    caught_by = ("inspect.times",)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        info = super().inspect(container)
        return attrs.evolve(info, created_at=info.created_at and info.created_at.replace(tzinfo=None))


class ListsEverything(Saboteur):
    """Does not look at the labels that are asked for."""

    caught_by = ("list.by-label", "list.exact-value", "list.empty")

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        return super().list_containers({}, running_only)


class ListsAnyLabel(Saboteur):
    """Lists what has one of the labels."""

    caught_by = ("list.by-all-labels",)

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        found = [
            one
            for pair in labels.items()
            for one in super(ListsAnyLabel, self).list_containers(dict([pair]), running_only)
        ]
        return tuple({info.id: info for info in found}.values())


class ListsRunning(Saboteur):
    """Forgets what does not run."""

    caught_by = ("list.stopped", "containers.create")

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        return super().list_containers(labels, running_only=True)
