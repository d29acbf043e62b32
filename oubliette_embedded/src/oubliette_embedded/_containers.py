"""Containers: made, started, stopped, removed and looked at."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import ContainerNotFoundError, InUseError, OperationTimeoutError
from oubliette_core.models import ContainerInfo, ContainerSpec, ContainerStatus
from oubliette_embedded._control import Control
from oubliette_embedded._options import RUNTIME
from oubliette_embedded._places import Places, not_found, read_run
from oubliette_embedded._specs import check, define
from oubliette_embedded.images import ImageStore, remove_tree
from oubliette_embedded.supervisor.record import boot_id, is_held

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from oubliette_embedded._definition import Definition
    from oubliette_embedded._starting import Starter

__all__ = ["Containers"]

_LOST = 137
"""Exit code of a container whose supervisor was killed: everything in it was killed as well."""
_DEADLINE = 30.0
_LOOK_EVERY = 0.005


class Containers:
    """The containers of one root.

    :param starter: starts them. :param oom_known: whether it can be told that one was killed for want of memory.
    """

    def __init__(self, places: Places, images: ImageStore, starter: Starter, *, oom_known: bool) -> None:
        self._places = places
        self._images = images
        self._starter = starter
        self._oom_known = oom_known

    def close(self) -> None:
        """Let go of what is held for the next call. Idempotent."""
        self._starter.close()

    # -- Looking --------------------------------------------------------------------------------------------------

    def find(self, container: str) -> Path:
        """Return the directory of a container. :raises ContainerNotFoundError: there is none."""
        return self._places.find(container)

    def inspect(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.inspect`."""
        try:
            return self._info(self._places.find(container))
        except ContainerNotFoundError:
            raise not_found(container) from None

    def list_containers(self, labels: Mapping[str, str], *, running_only: bool) -> tuple[ContainerInfo, ...]:
        """See `RuntimeSpec.list_containers`."""
        found = []
        for directory in self._places.all():
            try:
                definition = self._places.definition(directory)
                if labels.items() <= definition.labels.items():
                    found.append(self._described(directory, definition))
            except ContainerNotFoundError:
                continue  # removed meanwhile
        return tuple(info for info in found if info.running or not running_only)

    def _info(self, directory: Path) -> ContainerInfo:
        return self._described(directory, self._places.definition(directory))

    def _described(self, directory: Path, definition: Definition) -> ContainerInfo:
        run = read_run(directory)
        status, code = _status(run, directory)
        if code == _LOST and (later := read_run(directory)) != run:  # it ended while we looked
            run = later
            status, code = _status(run, directory)
        oom_killed = bool(run.get("oom_killed", False)) if self._oom_known else None
        started = run.get("started_at")
        return ContainerInfo(
            id=definition.id,
            name=definition.name,
            image=definition.image,
            image_id=definition.image_id,
            status=status,
            exit_code=code,
            oom_killed=oom_killed,
            labels=definition.labels,
            created_at=datetime.fromtimestamp(definition.created_at, UTC),
            started_at=None if started is None else datetime.fromtimestamp(started, UTC),
            ip_address=str(run.get("ip_address", "")) if status is ContainerStatus.RUNNING else "",
            mounts=definition.mounts,
        )

    # -- Changing -------------------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """See `RuntimeSpec.create`."""
        check(spec)
        self._sweep()
        identity = secrets.token_hex(16)
        with self._places.making(identity) as directory:
            try:
                image = self._images.use(spec.image, spec.platform, identity)
                definition = define(spec, image, identity)
                self._starter.check(definition, image)
                for name in ("upper", "work"):
                    (directory / name).mkdir(mode=0o755)
                place = self._places.put(directory, definition)
            except BaseException:
                self._images.release(identity)
                remove_tree(directory)
                raise
        return self._described(place, definition)

    def start(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.start`."""
        try:
            directory = self._places.find(container)
            with self._places.locked(directory) as lock:
                definition = self._places.definition(directory)
                info = self._described(directory, definition)
                if not info.running:
                    if read_run(directory).get("status") in ("starting", "running"):
                        self._starter.kill_leftovers(directory)
                    self._starter.start(directory, definition, lock)
                return self._described(directory, definition)
        except ContainerNotFoundError:
            raise not_found(container) from None

    def stop(self, container: str, grace: float) -> ContainerInfo:
        """See `RuntimeSpec.stop`."""
        try:
            directory = self._places.find(container)
            self._end(directory, grace)
            return self._info(directory)
        except ContainerNotFoundError:
            raise not_found(container) from None

    def _end(self, directory: Path, grace: float) -> None:
        """Stop a container and wait until it has ended."""
        deadline = time.monotonic() + grace + _DEADLINE
        while self._info(directory).running:
            if time.monotonic() > deadline:
                raise OperationTimeoutError(
                    f"container {directory.name} did not end",
                    operation="stop",
                    timeout=grace + _DEADLINE,
                    runtime=RUNTIME,
                    subject=directory.name,
                )
            try:
                control = Control(directory, [[b"stop", b"%f" % grace]])
            except OSError:
                time.sleep(_LOOK_EVERY)  # it is ending by itself
                continue
            heard = b"-"
            while heard not in (b"", b"ended") and control.ready(deadline - time.monotonic()):
                heard, _ = control.hear()
            control.close()

    def remove(self, container: str, *, force: bool) -> bool:
        """See `RuntimeSpec.remove`."""
        try:
            directory = self._places.find(container)
            while not self._removed(directory, force=force):
                self._end(directory, 0.0)
        except ContainerNotFoundError:
            return False
        self._sweep()
        return True

    def _removed(self, directory: Path, *, force: bool) -> bool:
        """Take a container away that does not run; False when it runs, and may be killed."""
        with self._places.locked(directory):
            definition = self._places.definition(directory)
            if self._described(directory, definition).running:
                if not force:
                    raise InUseError(
                        f"container {definition.name} is running",
                        runtime=RUNTIME,
                        subject=definition.id,
                        hint="Stop it first, or remove it by force.",
                    )
                return False
            if read_run(directory).get("status") in ("starting", "running"):
                self._starter.kill_leftovers(directory)
            self._starter.forget(directory.name)
            self._places.take_away(directory, definition.name)
        return True

    def _sweep(self) -> None:
        """Remove what is left of containers that are gone."""
        for directory in self._places.leftovers():
            self._images.release(directory.name)
            remove_tree(directory)


def _status(run: Mapping[str, Any], directory: Path) -> tuple[ContainerStatus, int | None]:
    """Tell whether a container runs, and how it ended."""
    match run.get("status"):
        case None:
            return ContainerStatus.CREATED, None
        case "exited":
            return ContainerStatus.EXITED, int(run.get("exit_code", _LOST))
        case status if run.get("boot") == boot_id() and is_held(str(directory / "alive")):
            return (ContainerStatus.RUNNING if status == "running" else ContainerStatus.CREATED), None
        case _:
            return ContainerStatus.EXITED, _LOST
