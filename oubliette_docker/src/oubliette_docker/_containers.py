"""Containers: create, start, stop, remove, inspect, list."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import (
    ContainerNotFoundError,
    ImageNotFoundError,
    OperationTimeoutError,
    OublietteError,
    RuntimeLostError,
    RuntimeOperationError,
    RuntimeUnavailableError,
    StartFailedError,
)
from oubliette_core.models import LABEL_ATTEMPT, ContainerInfo, ContainerSpec
from oubliette_docker._connection import DEADLINE, Connection
from oubliette_docker._errors import RUNTIME, EngineError, missing_source, translate, translated
from oubliette_docker._images import engine_reference
from oubliette_docker._specs import container_info, create_body, listed_container
from oubliette_docker._streams import Demultiplexer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_docker._capabilities import EngineFacts
    from oubliette_docker._images import Images

__all__ = ["Containers"]

STOP_MARGIN = 15.0
"""Seconds that an engine gets for a stop beyond the grace."""
_LOOK_FOR = 1.0
"""Longest time in seconds that a container is watched after its start, when nothing proves that it works."""
_LOOK_EVERY = 0.01
_SETTLE, _SETTLE_PODMAN = 0.03, 0.5
"""Time in seconds that a command without an init is watched. Podman is late to notice that one has ended."""
_INIT_FOUND_NOTHING = re.compile(rb"(?:exec .+ failed|failed to exec pid1): No such file")
"""What tini and catatonit print when there is no such command."""
_TOP = 2.0
_SEARCH_FOR = 5.0
"""How long in seconds a container is looked for whose create was not answered."""
_OUTPUT = 4096
_AT_REST = {"created", "configured", "initialized", "exited", "stopped", "dead"}
_COULD_BE_A_PREFIX = re.compile(r"[0-9a-f]{1,63}")


class Containers:
    """The containers of one engine."""

    def __init__(self, connection: Connection, facts: EngineFacts, images: Images) -> None:
        self._connection, self._facts, self._images = connection, facts, images

    # -- Reading ------------------------------------------------------------------------------------------------------

    def inspect(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.inspect`."""
        with translated("inspect", container):
            return self._info(self._raw(container))

    def list_containers(self, labels: Mapping[str, str], *, running_only: bool) -> tuple[ContainerInfo, ...]:
        """See `RuntimeSpec.list_containers`."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        if running_only:
            filters["status"] = ["running"]
        with translated("list_containers", ""):
            answer = self._connection.request(
                "GET", "/containers/json", query={"all": True, "filters": json.dumps(filters)}
            )
            return tuple(map(listed_container, answer.json()))

    def whole(self, container: str) -> str:
        """Return ``container`` if the engine cannot take it for the beginning of an id, else the id that it names.

        :raises ContainerNotFoundError: it is the beginning of an id, and no name.
        """
        return self.inspect(container).id if _COULD_BE_A_PREFIX.fullmatch(container) else container

    def _raw(self, container: str) -> Mapping[str, Any]:
        raw: Mapping[str, Any] = self._connection.request("GET", f"/containers/{container}/json").json()
        if container not in (raw["Id"], raw.get("Name", "").lstrip("/")):
            raise ContainerNotFoundError(f"there is no container {container}", runtime=RUNTIME, subject=container)
        return raw

    def _info(self, raw: Mapping[str, Any]) -> ContainerInfo:
        podman = self._connection.podman_version()
        return container_info(raw, oom_known=podman is None or podman >= (5, 0))

    # -- Create -------------------------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """See `RuntimeSpec.create`."""
        attempt = spec.labels.get(LABEL_ATTEMPT) or uuid.uuid4().hex
        spec = attrs.evolve(spec, labels={**spec.labels, LABEL_ATTEMPT: attempt})
        with translated("create", _called(spec)):
            if self._connection.is_podman():
                spec = self._for_podman(spec)
            body = create_body(spec, engine_reference(spec.image), self._facts.log_driver())
            try:
                identity = self._create(spec, body)
            except (RuntimeLostError, OperationTimeoutError):
                identity = self._find_attempt(attempt)
                if not identity:
                    raise
            except EngineError as error:
                raise _create_refused(error, spec) from error
        return self.inspect(identity)

    def _create(self, spec: ContainerSpec, body: dict[str, Any]) -> str:
        query = {"name": spec.name} if spec.name else {}
        if spec.platform and self._connection.api_version() >= (1, 41):
            query["platform"] = spec.platform
        return str(self._connection.request("POST", "/containers/create", query=query, body=body).json()["Id"])

    def _for_podman(self, spec: ContainerSpec) -> ContainerSpec:
        """Refuse what Podman takes without a word: an image for another platform, a source that it would make.

        :returns: the specification, with the image's command in it where Podman would forget that.
        """
        if spec.platform is not None:
            self._images.inspect(spec.image, spec.platform)
        is_local = self._connection.endpoint.url.startswith("unix:")
        for mount in spec.mounts if is_local else ():
            if mount.kind == "bind" and not Path(mount.source).exists():
                raise missing_source(mount.source, _called(spec))
        if spec.entrypoint == () and spec.command is None:
            return attrs.evolve(spec, command=self._images.command(spec.image))
        return spec

    def _find_attempt(self, attempt: str) -> str:
        """Look for the container of a create that was not answered: engines go on without their client."""
        deadline = time.monotonic() + _SEARCH_FOR
        while time.monotonic() < deadline:
            try:
                found = self.list_containers({LABEL_ATTEMPT: attempt}, running_only=False)
            except (RuntimeLostError, RuntimeUnavailableError, OperationTimeoutError):
                found = ()
            if found:
                return found[0].id
            time.sleep(0.25)
        return ""

    # -- Start --------------------------------------------------------------------------------------------------------

    def start(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.start`."""
        container = self.whole(container)
        with translated("start", container):
            try:
                answer = self._connection.request("POST", f"/containers/{container}/start")
            except EngineError as error:
                translation = translate(error, "start", container)
                if isinstance(translation, StartFailedError):
                    translation = self._start_failed(container, self._raw(container), translation.message)
                raise translation from error
            if answer.status == 304:
                return self._info(self._raw(container))
            return self._seen_alive(container)

    def _seen_alive(self, container: str) -> ContainerInfo:
        """Watch a container that was just started until its command has been seen at work, or for a moment.

        The engine answers when it has started the init process, which may find only then that there is no such
        command. So a process beside the init is waited for. Without an init the command itself has been started, and
        is given a moment to fail.
        """
        began = time.monotonic()
        settle = _SETTLE_PODMAN if self._connection.is_podman() else _SETTLE
        alive = False
        while True:
            raw = self._raw(container)
            info = self._info(raw)
            if not info.running:
                raise self._start_failed(container, raw, f"container {container} ended as soon as it was started")
            watched = time.monotonic() - began
            if alive or watched >= _LOOK_FOR:
                return info
            has_init = (raw.get("HostConfig") or {}).get("Init")
            alive = self._runs_beside_init(container) if has_init else watched >= settle
            time.sleep(_LOOK_EVERY)

    def _runs_beside_init(self, container: str) -> bool:
        try:
            rows = self._connection.request("GET", f"/containers/{container}/top", timeout=_TOP).json()["Processes"]
            # The init's command line ends in "-- COMMAND", and its child has the same until it becomes the command.
            return any(" -- " not in row[-1] for row in rows)
        except (EngineError, RuntimeLostError, OperationTimeoutError, LookupError, TypeError):
            return False  # no ps on the engine's machine, or a Podman whose answer is no JSON

    def _start_failed(self, container: str, raw: Mapping[str, Any], message: str) -> StartFailedError:
        output = self._last_output(container, raw)
        code = (raw.get("State") or {}).get("ExitCode") or 0
        named = re.search(r'exec: "?([^":]+)"?: .*(?:not found|no such file)', message)
        if named or code == 127 or _INIT_FOUND_NOTHING.search(output):
            code = 127  # Podman leaves it out
            command = f"no command {named[1]!r}" if named else "no such command (exit code 127)"
            message = f"container {container} could not be started: the image has {command}"
        hint = "See what it printed last."
        if code in (126, 127):
            hint = "Check the command that the container is to run, and that the image has it."
        return StartFailedError(
            message, exit_code=code or None, output=output, runtime=RUNTIME, subject=container, hint=hint
        )

    def _last_output(self, container: str, raw: Mapping[str, Any]) -> bytes:
        query = {"stdout": True, "stderr": True, "tail": 100}
        try:
            printed = self._connection.request("GET", f"/containers/{container}/logs", query=query).body
        except RuntimeOperationError:
            return b""  # the failed start is the news, not that its log cannot be read
        demultiplexer = Demultiplexer(framed=not (raw.get("Config") or {}).get("Tty"))
        return b"".join(part for _, part in demultiplexer.feed(printed))[-_OUTPUT:]

    # -- Stop and remove ----------------------------------------------------------------------------------------------

    def stop(self, container: str, grace: float) -> ContainerInfo:
        """See `RuntimeSpec.stop`."""
        container = self.whole(container)
        seconds = math.ceil(grace)
        with translated("stop", container):
            raw = self._raw(container)
            status = str(raw["State"].get("Status")).lower()
            if status in _AT_REST:
                return self._info(raw)
            if status == "paused":  # it could not react, and Podman refuses
                self._connection.request("POST", f"/containers/{container}/unpause")
            self._connection.request(
                "POST", f"/containers/{container}/stop", query={"t": seconds}, timeout=seconds + STOP_MARGIN
            )
            return self._info(self._raw(container))

    def remove(self, container: str, *, force: bool) -> bool:
        """See `RuntimeSpec.remove`."""
        try:
            container = self.whole(container)
            with translated("remove", container):
                self._remove(container, force=force)
        except ContainerNotFoundError:
            return False
        return True

    def _remove(self, container: str, *, force: bool) -> None:
        if force and self._connection.is_podman():
            with contextlib.suppress(EngineError):  # on its own it waits for a grace of ten seconds
                self._connection.request("POST", f"/containers/{container}/stop", query={"t": 0})
        try:
            self._connection.request("DELETE", f"/containers/{container}", query={"force": force, "v": True})
        except EngineError as error:
            if "already in progress" not in error.message:
                raise
            self._wait_until_gone(container)

    def _wait_until_gone(self, container: str) -> None:
        """Wait for somebody else's removal to end."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                self._raw(container)
            except EngineError as error:
                if error.status == 404:
                    return
                raise
            time.sleep(0.1)
        raise OperationTimeoutError(
            f"container {container} is being removed, and still there after {DEADLINE:g} s",
            operation="remove",
            timeout=DEADLINE,
            runtime=RUNTIME,
            subject=container,
        )


def _create_refused(error: EngineError, spec: ContainerSpec) -> OublietteError:
    """Return what a refused create stands for: it is about the image, or about the container."""
    refusal = translate(error, "create", spec.image)
    return refusal if isinstance(refusal, ImageNotFoundError) else translate(error, "create", _called(spec))


def _called(spec: ContainerSpec) -> str:
    return spec.name or f"a container of {spec.image}"
