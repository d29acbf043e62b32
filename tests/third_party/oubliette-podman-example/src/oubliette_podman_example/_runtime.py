"""The hooks."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from oubliette_core.errors import (
    ConfigError,
    ContainerNotFoundError,
    ContainerNotRunningError,
    ImageNotFoundError,
    ImagePullError,
    OublietteError,
    StartFailedError,
)
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
    Cancel,
    Capability,
    ContainerInfo,
    ContainerSpec,
    ContainerStatus,
    ExecResult,
    ExecSpec,
    ImageInfo,
    LogSpec,
    Mount,
    Probe,
    Process,
    ProgressCallback,
    ProgressEvent,
    RuntimeSettings,
)
from oubliette_core.reference import Reference
from oubliette_podman_example._command import NAME, Podman, variables
from oubliette_podman_example._pulling import pull
from oubliette_podman_example._reading import container_info, image_info, listed_container
from oubliette_podman_example._running import Runner, chunks, raw_pipe

_LOOK_FOR, _LOOKS = 0.3, 5
"""For how many seconds, and how often at least, a container is looked at after its start."""

_CAN = frozenset(
    {
        Capability.READ_ONLY,
        Capability.CAPABILITIES,
        Capability.NO_NEW_PRIVILEGES,
        Capability.INIT,
        Capability.HOSTNAME,
        Capability.USER,
        Capability.NETWORK_NONE,
        Capability.NETWORK_HOST,
        Capability.NETWORK_NAMED,
        Capability.VOLUMES,
        Capability.TMPFS,
        Capability.LOGS_FOLLOW,
        Capability.PERSISTENT_LAYER,
        Capability.EXIT_CODE,
        Capability.REMOVE_IMAGE,
    }
)
_NEEDS_CONTROLLER = {
    "memory": Capability.MEMORY_LIMIT,
    "cpu": Capability.CPU_LIMIT,
    "pids": Capability.PIDS_LIMIT,
}


class PodmanRuntime:
    """Containers of Podman, through its command line.

    :param settings: ``options`` may have ``command``, the path of ``podman``.
    """

    api_version = 1

    def __init__(self, settings: RuntimeSettings) -> None:
        unknown = sorted(set(settings.options) - {"command"})
        if unknown:
            raise ConfigError(f"runtimes.{NAME}: unknown key {unknown[0]}", problems=unknown)
        self._podman = Podman(str(settings.options.get("command", "podman")))
        self._runner = Runner(self._podman, self._is_running)
        self._capabilities: frozenset[Capability] | None = None

    # -- The engine -----------------------------------------------------------------------------------------------

    @hookimpl
    def probe(self) -> Probe:
        """Ask for the version: Podman has no daemon that could be down."""
        try:
            version = self._podman.run("version", "--format={{.Client.Version}}", timeout=1.8).strip()
        except OublietteError as error:
            return Probe(available=False, priority=20, detail=error.message, hint=error.hint)
        return Probe(available=True, version=version, priority=20, detail=f"Podman {version}")

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """Declare limits where there are cgroups for them, which an ordinary user often does not have."""
        if self._capabilities is None:
            host = json.loads(self._podman.run("info", "--format=json"))["host"]
            rootless = {Capability.ROOTLESS} if host["security"]["rootless"] else set()
            enforced = set() if rootless and host["cgroupVersion"] == "v1" else set(host["cgroupControllers"])
            limits = {capability for name, capability in _NEEDS_CONTROLLER.items() if name in enforced}
            self._capabilities = _CAN | limits | rootless
        return self._capabilities

    @hookimpl
    def close(self) -> bool:
        """Nothing is kept open."""
        return True

    # -- Images ---------------------------------------------------------------------------------------------------

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """Pull, and look whether it is what was asked for: Podman takes an image of another platform, too."""
        reference = _for_podman(str(Reference.parse(image).normalised()))
        words = (f"--platform={platform}",) if platform else ()
        try:
            identity = pull(self._podman, image, (*words, reference), progress=progress, cancel=cancel, timeout=timeout)
        except ImagePullError as error:
            if platform and error.reason == "no_platform":
                raise _no_platform(image, platform) from error
            raise
        info = self._image(image, identity)
        if platform and not _fits(info.platform, platform):
            self.remove_image(reference)
            raise _no_platform(image, platform)
        if progress is not None:
            progress(ProgressEvent(image=image, phase="done"))
        return info

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        """See `RuntimeSpec.exists`."""
        try:
            return bool(self.inspect_image(image, platform).id)
        except ImageNotFoundError:
            return False

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """See `RuntimeSpec.inspect_image`."""
        info = self._image(image, _for_podman(image))
        if platform and not _fits(info.platform, platform):
            raise ImageNotFoundError(f"{image} is here for {info.platform} only", runtime=NAME, subject=image)
        return info

    @hookimpl
    def remove_image(self, image: str) -> bool:
        """See `RuntimeSpec.remove_image`."""
        try:
            self._podman.run("image", "rm", _for_podman(image), subject=image)
        except ImageNotFoundError:
            return False
        return True

    def _image(self, image: str, reference: str) -> ImageInfo:
        return image_info(json.loads(self._podman.run("image", "inspect", reference, subject=image))[0])

    # -- Containers -----------------------------------------------------------------------------------------------

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """See `RuntimeSpec.create`. Values of variables are not among the words, which anybody can see."""
        image = self.inspect_image(spec.image, spec.platform)
        words, inherited = variables(spec.env)
        name = spec.name or f"a container of {image.id}"
        options = [*words, *_options(spec), "--pull=never", "--http-proxy=false", "--log-driver=k8s-file"]
        command = [*(spec.entrypoint or ())[1:], *(spec.command or ())]
        create = ("create", *options, _for_podman(spec.image), *command)
        identity = self._podman.run(*create, subject=name, env=inherited).split()[-1]
        return self.inspect(identity)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.start`."""
        info = self.inspect(container)
        if info.running:
            return info
        try:
            self._podman.run("start", info.id, subject=container)
        except OublietteError as error:
            raise self._start_failed(container, error.message) from error
        deadline, looks = time.monotonic() + _LOOK_FOR, 0
        while looks < _LOOKS or time.monotonic() < deadline:
            info, looks = self.inspect(info.id), looks + 1
            if not info.running:
                raise self._start_failed(container, f"container {container} ended as soon as it was started")
        return info

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """See `RuntimeSpec.stop`."""
        info = self.inspect(container)
        if info.status not in (ContainerStatus.CREATED, ContainerStatus.EXITED):
            seconds = math.ceil(grace)
            self._podman.run("stop", f"--time={seconds}", info.id, subject=container, timeout=seconds + 15)
        return self.inspect(info.id)

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        """See `RuntimeSpec.remove`."""
        try:
            info = self.inspect(container)
            forced = ("--force", "--time=0") if force else ()
            self._podman.run("rm", "--volumes", *forced, info.id, subject=container)
        except ContainerNotFoundError:
            return False
        return True

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.inspect`. Podman takes the beginning of an id for the whole, which is not wanted."""
        raw = json.loads(self._podman.run("container", "inspect", container, subject=container))[0]
        if container not in (raw["Id"], raw["Name"]):
            raise ContainerNotFoundError(f"there is no container {container}", runtime=NAME, subject=container)
        return container_info(raw)

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """Compare labels here: Podman's filter has a language of its own, with wildcards."""
        listed = json.loads(self._podman.run("ps", "--all", "--no-trunc", "--format=json") or "[]")
        found = map(listed_container, listed)
        return tuple(
            info for info in found if labels.items() <= info.labels.items() and (info.running or not running_only)
        )

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """See `RuntimeSpec.logs`."""
        info = self.inspect(container)
        words = ["--tail=-1" if spec.tail is None else f"--tail={spec.tail}"]
        words += ["--follow"] if spec.follow else []
        process = self._podman.start(["logs", *words, info.id], subject=container, both=True, stdin=subprocess.DEVNULL)
        return LogReader(process, (lambda: self._is_running(info.id)) if spec.follow else None)

    # -- Commands -------------------------------------------------------------------------------------------------

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """See `RuntimeSpec.exec`."""
        return self._runner.run(self._running(container), spec, cancel)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """See `RuntimeSpec.open_exec`."""
        return self._runner.open(self._running(container), spec)

    def _running(self, container: str) -> str:
        info = self.inspect(container)
        if not info.running:
            raise ContainerNotRunningError(f"container {container} is not running", runtime=NAME, subject=container)
        return info.id

    def _is_running(self, container: str) -> bool:
        try:
            return self.inspect(container).running
        except ContainerNotFoundError:
            return False

    def _start_failed(self, container: str, message: str) -> StartFailedError:
        info = self.inspect(container)
        output = b"".join(self.logs(container, LogSpec(tail=100)))[-4096:]
        return StartFailedError(
            message,
            exit_code=info.exit_code,
            output=output,
            runtime=NAME,
            subject=container,
            hint="Check the command that the container is to run, and that the image has it.",
        )


class LogReader(Iterator[bytes]):
    """What ``podman logs`` prints; closing it ends it.

    :param runs: of a container that is followed, tells whether it still runs.
    """

    def __init__(self, process: subprocess.Popen[bytes], runs: Callable[[], bool] | None) -> None:
        self._process, self._pipe = process, raw_pipe(process.stdout)
        self._chunks = chunks(self._pipe)
        if runs is not None:
            threading.Thread(target=_end, args=(self._process, self._pipe.fileno(), runs), daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        for part in self._chunks:
            return part
        self.close()
        raise StopIteration

    def close(self) -> None:
        """End it, also while another thread waits for the next chunk."""
        self._process.kill()
        self._process.wait()

    def __del__(self) -> None:
        self.close()
        self._pipe.close()


def _end(process: subprocess.Popen[bytes], pipe: int, runs: Callable[[], bool]) -> None:
    """End a follow when its container has ended and nothing more comes: now and then Podman misses that."""
    output = select.poll()
    output.register(pipe)
    ended = False
    while process.poll() is None:
        if not output.poll(1000) and ended:
            process.kill()
            return
        with contextlib.suppress(OublietteError, subprocess.TimeoutExpired):
            ended = not runs()
            process.wait(1.0)


def _options(spec: ContainerSpec) -> Iterator[str]:
    """Write a specification as options, always as one word: a value is never taken for an option."""
    single: dict[str, Any] = {
        "name": spec.name,
        "workdir": spec.workdir,
        "user": spec.user,
        "memory": spec.memory and f"{spec.memory}b",
        "memory-swap": spec.memory and f"{spec.memory}b",
        "cpus": spec.cpus,
        "pids-limit": spec.pids,
        "hostname": spec.hostname,
        "network": None if spec.network == "default" else spec.network,
        "entrypoint": None
        if spec.entrypoint is None
        else json.dumps(list(spec.entrypoint[:1]))
        if spec.entrypoint
        else "",
    }
    yield from (f"--{name}={value}" for name, value in single.items() if value is not None)
    yield from (f"--label={name}={value}" for name, value in spec.labels.items())
    yield from (f"--mount={_mount(mount)}" for mount in spec.mounts)
    yield from (f"--cap-drop={name}" for name in spec.drop_capabilities)
    yield from (f"--cap-add={name}" for name in spec.add_capabilities)
    if spec.init:
        yield "--init"
    if spec.read_only:
        yield from ("--read-only", "--read-only-tmpfs=false")
    if spec.no_new_privileges:
        yield "--security-opt=no-new-privileges"


def _mount(mount: Mount) -> str:
    """Write a mount as Podman reads it: a line of comma-separated values."""
    fields = [f"type={mount.kind}", f"target={mount.target}"]
    fields += [f"source={mount.source}"] if mount.source else []
    fields += ["readonly=true"] if mount.read_only else []
    fields += [f"tmpfs-size={mount.size}"] if mount.size else []
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _for_podman(image: str) -> str:
    """Return a reference as Podman takes it: by digest alone where there is a tag as well."""
    if re.fullmatch(r"(sha256:)?[0-9a-f]{64}", image):
        return image.removeprefix("sha256:")
    reference = Reference.parse(image)
    return f"{reference.name}@{reference.digest}" if reference.digest else image


def _no_platform(image: str, platform: str) -> ImagePullError:
    message = f"{image} could not be pulled: it is not offered for {platform}"
    return ImagePullError(message, reason="no_platform", runtime=NAME, subject=image)


def _fits(platform: str, wanted: str) -> bool:
    """Tell whether an image's platform is the wanted one, which may leave out the variant."""
    return platform.split("/")[: wanted.count("/") + 1] == wanted.split("/")
