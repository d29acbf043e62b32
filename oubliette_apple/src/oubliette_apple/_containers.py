"""Containers: create, start, stop, remove, inspect, list."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_apple import _environment, _errors, _labels, _logs, _read
from oubliette_apple._images import Images, default_platform
from oubliette_core.errors import (
    ContainerNotFoundError,
    ImageNotFoundError,
    InvalidSpecError,
    OublietteError,
    RuntimeLostError,
    StartFailedError,
)
from oubliette_core.models import ContainerInfo, ContainerSpec, ContainerStatus, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_apple._cli import Cli, Completed

_AT_ONCE = 2
"""Creates and starts at one time: one lock in the service covers all of them, and those that wait too long fail."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,62}")
_SEEN_ALIVE = 0.2
_REMOVAL = 30.0
_MIB = 1024 * 1024


class Containers:
    """The container hooks.

    :param cli: the command. :param images: to look whether an image is here, because ``create`` would pull it.
    """

    def __init__(self, cli: Cli, images: Images) -> None:
        self._cli = cli
        self._images = images
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Make a stopped container."""
        name = spec.name or f"oubliette-{uuid.uuid4().hex[:12]}"
        if not _NAME.fullmatch(name):
            raise InvalidSpecError(
                f"{name!r} is not a name of 2 to 63 characters, which this runtime needs", value=name
            )
        item = self._images.item(spec.image)
        platform = spec.platform or default_platform()
        if item is None or _read.image(item, platform) is None:
            raise ImageNotFoundError(
                f"image {spec.image} is not present for {platform}", runtime=_errors.NAME, subject=spec.image
            )
        config = _read.variant_config(item, platform)
        if not self._cli.version().at_least(0, 10):
            _refuse_what_stays(spec, config)
        command = _command(spec, config)
        with _environment.arguments(spec.env) as (options, env), self._turn("create", name) as left:
            arguments = ["create", f"--name={name}", f"--platform={platform}", *_options(spec), *options, *command]
            answer = self._create(name, arguments, env, left)
        if answer.code:
            error = _errors.translate(answer.error, operation="create", subject=name)
            if isinstance(error, ImageNotFoundError):
                error.subject = spec.image
            raise error
        return self.inspect(name)

    def _create(self, name: str, arguments: list[str], env: dict[str, str], timeout: float) -> Completed:
        """Call ``create``; once more when the service was too busy to answer and there is no such container."""
        answer = self._cli.run(*arguments, operation="create", subject=name, env=env, timeout=timeout)
        if answer.code and _errors.BUSY.search(answer.error) and self._find(name) is None:
            answer = self._cli.run(*arguments, operation="create", subject=name, env=env, timeout=timeout)
        return answer

    @contextlib.contextmanager
    def _turn(self, operation: str, container: str) -> Iterator[float]:
        """Wait for a turn and yield the seconds that are left of the call's deadline."""
        timeout = self._cli.options.timeout
        deadline = time.monotonic() + timeout
        if not self._turns.acquire(timeout=timeout):
            raise _errors.late(operation, container, timeout)
        try:
            yield max(0.1, deadline - time.monotonic())
        finally:
            self._turns.release()

    def start(self, container: str) -> ContainerInfo:
        """Start a container and see it alive."""
        with self._turn("start", container) as left:
            answer = self._cli.run("start", container, operation="start", subject=container, timeout=left)
        if answer.code:
            raise self._not_started(container, answer)
        first = self.inspect(container)
        if first.running:
            time.sleep(_SEEN_ALIVE)
            first = self.inspect(container)
        if not first.running:
            raise StartFailedError(
                f"container {container} ended at once",
                output=_logs.last(self._cli, container),
                runtime=_errors.NAME,
                subject=container,
                hint="Look at what its command printed.",
            )
        return first

    def _not_started(self, container: str, answer: Completed) -> OublietteError:
        error = _errors.translate(answer.error, operation="start", subject=container)
        known = (ContainerNotFoundError, RuntimeLostError)
        if isinstance(error, known) or _errors.SERVICE_DOWN.search(answer.error):
            return error
        missing = _errors.PROGRAM_MISSING.search(answer.error)
        return StartFailedError(
            f"container {container} could not be started: {_errors.detail(answer.error)}",
            exit_code=127 if missing else None,
            output=_logs.last(self._cli, container),
            runtime=_errors.NAME,
            subject=container,
        )

    def stop(self, container: str, grace: float) -> ContainerInfo:
        """Stop a container. Versions before 0.11 say nothing about one that does not exist."""
        seconds = math.ceil(grace)
        before = self.inspect(container)
        if before.status in (ContainerStatus.CREATED, ContainerStatus.EXITED):
            return before
        self._cli.check(
            "stop",
            f"--time={seconds}",
            container,
            operation="stop",
            subject=container,
            timeout=seconds + self._cli.options.timeout,
        )
        return self.inspect(container)

    def remove(self, container: str, force: bool) -> bool:
        """Remove a container; killed first with ``force``."""
        options = ["--force"] if force else []
        deadline = time.monotonic() + _REMOVAL
        while True:
            answer = self._cli.run("delete", *options, container, operation="delete", subject=container)
            if answer.code == 0:
                return True
            error = _errors.translate(answer.error, operation="delete", subject=container)
            # Before 0.11 every failure of delete has the words of a container that is not there.
            found = self._find(container)
            if found is None:
                return False
            if not isinstance(error, (ContainerNotFoundError, RuntimeLostError)) or time.monotonic() > deadline:
                raise error
            if found.running and not force:
                raise _errors.in_use(container)
            time.sleep(0.2)

    def inspect(self, container: str) -> ContainerInfo:
        """Describe a container."""
        found = self._find(container)
        if found is None:
            raise ContainerNotFoundError(f"there is no container {container}", runtime=_errors.NAME, subject=container)
        return found

    def _find(self, container: str) -> ContainerInfo | None:
        answer = self._cli.run("inspect", container, operation="inspect", subject=container)
        if answer.code:
            error = _errors.translate(answer.error, operation="inspect", subject=container)
            if isinstance(error, ContainerNotFoundError):
                return None
            raise error
        found = _read.document(answer.stdout, "inspect")
        return _read.container(found[0]) if found else None

    def list(self, labels: dict[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """Describe the containers with these labels; the command cannot filter, and its order is arbitrary."""
        answer = self._cli.check("list", "--all", "--format=json", operation="list")
        found = (_read.container(item) for item in _read.document(answer.stdout, "list"))
        wanted = labels.items()
        chosen = [info for info in found if wanted <= info.labels.items() and (info.running or not running_only)]
        return tuple(sorted(chosen, key=lambda info: info.id))


def _command(spec: ContainerSpec, config: dict[str, list[str] | None]) -> list[str]:
    """Return the words from ``--entrypoint`` on: the command takes one word for it, and drops the image's CMD then."""
    if spec.entrypoint is None:
        return [spec.image, *(spec.command or ())]
    words = list(spec.entrypoint) + list(spec.command if spec.command is not None else ())
    if not spec.entrypoint and spec.command is None:
        words = list(config.get("Cmd") or [])
    if not words:
        raise InvalidSpecError("neither the image nor the specification says what to run")
    return [f"--entrypoint={words[0]}", spec.image, *words[1:]]


def _refuse_what_stays(spec: ContainerSpec, config: dict[str, list[str] | None]) -> None:
    """Refuse to replace a variable of the image: before 0.10 both are there, and most programs take the image's."""
    own = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    for name in sorted(own.keys() & spec.env.keys()):
        if own[name] != spec.env[name]:
            raise InvalidSpecError(
                f"this version of container cannot replace the image's variable {name}",
                value=name,
                hint="Upgrade it: brew upgrade container",
            )


def _options(spec: ContainerSpec) -> list[str]:
    options = _labels.arguments(spec.labels)
    options += [f"--workdir={spec.workdir}"] if spec.workdir else []
    options += [f"--user={spec.user}"] if spec.user else []
    options += [f"--memory={spec.memory // _MIB}m"] if spec.memory else []
    options += [f"--cpus={_whole_cpus(spec.cpus)}"] if spec.cpus else []
    options += [f"--network={spec.network}"] if spec.network != "default" else []
    options += ["--init"] if spec.init else []
    options += ["--read-only"] if spec.read_only else []
    options += [f"--cap-drop={name}" for name in spec.drop_capabilities]
    options += [f"--cap-add={name}" for name in spec.add_capabilities]
    return options + [_mount(mount) for mount in spec.mounts]


def _whole_cpus(cpus: float) -> int:
    if cpus != int(cpus):
        raise InvalidSpecError(f"cpus has to be a whole number with this runtime, not {cpus:g}", value=f"{cpus:g}")
    return int(cpus)


def _mount(mount: Mount) -> str:
    if mount.kind == "tmpfs":
        size = f",size={mount.size}" if mount.size else ""
        return f"--mount=type=tmpfs,target={_plain(mount.target, ',=')}{size}"
    source = _plain(mount.source, ":")
    if mount.kind == "bind" and not Path(source).exists():
        raise InvalidSpecError(f"the source of a bind mount is missing: {source}", value=source)
    return f"--volume={source}:{_plain(mount.target, ':')}{':ro' if mount.read_only else ''}"


def _plain(path: str, signs: str) -> str:
    if any(sign in path for sign in signs):
        raise InvalidSpecError(
            f"a path in a mount must not contain any of {signs!r} with this runtime: {path}", value=path
        )
    return path
