"""One container of the fake engine: its files, its processes and what they print."""

from __future__ import annotations

import re
import secrets
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from oubliette_core.errors import StartFailedError
from oubliette_core.models import ContainerInfo, ContainerSpec, ContainerStatus, LogSpec
from oubliette_core.testing.fake.builtin import signal_number
from oubliette_core.testing.fake.devices import Processes, make_devices
from oubliette_core.testing.fake.files import Files
from oubliette_core.testing.fake.kernel import MAGIC, Kernel, Program, Task
from oubliette_core.testing.fake.nodes import Directory, File, HostNode, Identity, Node, Quota
from oubliette_core.testing.fake.programs import standard_programs
from oubliette_core.testing.fake.streams import FileStream, Recorder, Sink
from oubliette_core.testing.fake.tools_system import supervise
from oubliette_core.testing.fake.tree import make_tree
from oubliette_core.testing.fake.users import home_of, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oubliette_core.testing.fake.images import FakeImage

__all__ = ["FakeContainer", "Log"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SEEN_ALIVE = 0.25
"""Seconds that a main process which never rests is watched for."""
_LAST_OUTPUT = 4096
_OWN_PROGRAMS = "/usr/local/bin"


class Log:
    """What the main process has printed, with times."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: list[tuple[datetime, bytes]] = []
        self._closed = True

    def append(self, data: bytes) -> None:
        """Add what was printed now."""
        with self._changed:
            self._chunks.append((datetime.now(UTC), data))
            self._changed.notify_all()

    def open(self) -> None:
        """A run begins."""
        self._closed = False

    def close(self) -> None:
        """The run has ended: whoever follows has it all."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def last(self) -> bytes:
        """Return the end of it."""
        return b"".join(data for _, data in self._chunks)[-_LAST_OUTPUT:]

    def read(self, spec: LogSpec) -> Iterator[bytes]:
        """Yield what ``spec`` asks for."""
        with self._changed:
            chunks, position = list(self._chunks), len(self._chunks)
        wanted = [data for moment, data in chunks if spec.since is None or moment >= spec.since]
        yield from wanted if spec.tail is None else _last_lines(wanted, spec.tail)
        while spec.follow:
            with self._changed:
                if not self._closed and len(self._chunks) == position:
                    self._changed.wait(1.0)
                fresh, position = self._chunks[position:], len(self._chunks)
                ended = self._closed
            yield from (data for _, data in fresh)
            if ended and not fresh:
                return


def _last_lines(chunks: list[bytes], count: int) -> list[bytes]:
    """Return the last lines of what may be very long, in one piece."""
    needed: list[bytes] = []
    ends = 0
    for chunk in reversed(chunks):
        if ends > count:
            break
        needed.insert(0, chunk)
        ends += chunk.count(b"\n")
    lines = re.findall(rb"[^\n]*\n|[^\n]+", b"".join(needed))
    return [b"".join(lines[-count:])] if count and lines else []


class FakeContainer:
    """A container. Its processes are threads, its own files are in memory.

    :param programs: what commands do. :param volumes: where named volumes are kept.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        image: FakeImage,
        programs: Mapping[str, Program],
        volumes: dict[str, Directory],
    ) -> None:
        self.id = secrets.token_hex(32)
        self.name = spec.name or f"fake_{self.id[:12]}"
        self.spec = spec
        self.image = image
        self.created_at = datetime.now(UTC)
        self.started_at: datetime | None = None
        self.log = Log()
        self.lock = threading.RLock()
        self.kernel: Kernel | None = None
        self._main: Task | None = None
        self._stopping = False
        self._programs = programs
        self._volumes = volumes
        self._files: Files | None = None
        self._processes = Processes(mounts=_mount_table(spec), no_new_privileges=spec.no_new_privileges)

    # -- Looking at it --------------------------------------------------------------------------------------------

    @property
    def status(self) -> ContainerStatus:
        """What it is doing."""
        if self._main is None or self.kernel is None:
            return ContainerStatus.CREATED
        if self._main.exit_code is not None:
            return ContainerStatus.EXITED
        if self.kernel.frozen:
            return ContainerStatus.PAUSED
        return ContainerStatus.STOPPING if self._stopping else ContainerStatus.RUNNING

    @property
    def exit_code(self) -> int | None:
        """Exit code of the main process once it has ended."""
        return self._main.exit_code if self._main else None

    @property
    def alive(self) -> bool:
        """Whether its main process exists."""
        return self._main is not None and self._main.exit_code is None

    def info(self) -> ContainerInfo:
        """Describe it."""
        return ContainerInfo(
            id=self.id,
            name=self.name,
            image=self.spec.image,
            image_id=self.image.id,
            status=self.status,
            exit_code=self.exit_code,
            # Nothing limits memory here, so that nothing is killed for it.
            oom_killed=False,
            labels={**self.image.labels, **self.spec.labels},
            created_at=self.created_at,
            started_at=self.started_at,
            mounts=self.spec.mounts,
        )

    @property
    def files(self) -> Files:
        """The file system its processes see; made when it is first needed."""
        with self.lock:
            if self._files is None:
                self._files = self._make_files()
            return self._files

    # -- Its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the main process. :raises StartFailedError: it cannot be run or has ended at once."""
        with self.lock:
            if self.alive:
                return
            for mount in self.spec.mounts:
                if mount.kind == "bind" and not Path(mount.source).exists():
                    raise self._not_started(f"the source of a bind mount, {mount.source}, does not exist", 126)
            kernel = Kernel(
                self.files,
                self._programs,
                pids=self.spec.pids,
                hostname=self.spec.hostname or self.id[:12],
                machine={"amd64": "x86_64", "arm64": "aarch64"}.get(self.image.platform.split("/")[1], "unknown"),
            )
            self._files_for_start()
            self._main = self._spawn_main(kernel)
            self.kernel = self._processes.kernel = kernel
            self._stopping = False
            self.started_at = datetime.now(UTC)
            main = self._main
        if not kernel.settle(main, timeout=_SEEN_ALIVE):
            raise StartFailedError(
                f"container {self.name} ended at once with code {main.exit_code}",
                exit_code=main.exit_code, output=self.log.last(), runtime="fake", subject=self.name,
                hint="Look at its logs.",
            )  # fmt: skip

    def _spawn_main(self, kernel: Kernel) -> Task:
        argv = self.argv
        who = self.identity(self.spec.user or self.image.user)
        env, cwd = self.environment(who), self.spec.workdir or self.image.workdir
        if who is None or not argv:
            raise self._not_started("there is no such user" if argv else "there is no command", 126)
        try:
            if self.files.locate(cwd).node is None:
                self.files.make_directory(cwd, parents=True)
            path = kernel.find(argv[0], path=env["PATH"], cwd=cwd, who=who)
            program, real = kernel.program(path, argv, cwd=cwd)
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            raise self._not_started(f"{argv[0]}: {error.strerror}", code) from error
        if self.spec.init:
            program, real = supervise, ("init", *argv)
        self.log.open()
        out = Sink(self.log)
        streams = {0: FileStream(self.files.open_node("/dev/null", "r", who), "r"), 1: out, 2: out}
        task = kernel.spawn(program, real, env=env, cwd=cwd, who=who, streams=streams, at_end=self.log.close)
        for stream in (streams[0], out):
            stream.close()
        return task

    def _not_started(self, reason: str, code: int) -> StartFailedError:
        return StartFailedError(
            f"container {self.name} cannot be started: {reason}",
            exit_code=code, runtime="fake", subject=self.name,
            hint="Check the command, the user and the working directory.",
        )  # fmt: skip

    def stop(self, grace: float) -> None:
        """End the main process: the image's stop signal, then a kill after ``grace`` seconds."""
        kernel, main = self.kernel, self._main
        if kernel is None or main is None or main.exit_code is not None:
            return
        self._stopping = True
        kernel.freeze(False)
        kernel.signal(main.pid, signal_number(self.image.stop_signal) or signal.SIGTERM)
        if not kernel.wait(lambda: main.exit_code is not None, timeout=grace):
            self.kill()
        kernel.kill_all()

    def kill(self) -> None:
        """Kill everything in it, as from outside."""
        if self.kernel is not None:
            self.kernel.kill_all()

    def pause(self, *, paused: bool = True) -> None:
        """Halt all its processes, or let them go on."""
        if self.kernel is not None:
            self.kernel.freeze(paused)

    def run_to_end(
        self,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str,
        user: str,
        output: Recorder,
        cancelled: Callable[[], bool],
    ) -> int:
        """Run a command as the only process, for a build; its exit code.

        :param cancelled: tells whether not to wait for its end any more; who cancels kills it.

        :raises OSError: it cannot be run. :raises ValueError: there is no such user.
        """
        who = self.identity(user)
        if who is None:
            raise ValueError(f"there is no user {user}")
        kernel = self.kernel = self._processes.kernel = Kernel(self.files, self._programs, hostname=self.id[:12])
        variables = self.environment(who, env)
        program, real = kernel.program(kernel.find(argv[0], path=variables["PATH"], cwd=cwd, who=who), argv, cwd=cwd)
        out = Sink(output)
        null = FileStream(self.files.open_node("/dev/null", "r", who), "r")
        task = kernel.spawn(program, real, env=variables, cwd=cwd, who=who, streams={0: null, 1: out, 2: out})
        kernel.wait(lambda: cancelled() or not kernel.tasks)
        return task.exit_code or 0

    @property
    def layer(self) -> Files:
        """Its own files, without what is mounted over them."""
        return Files(self.files.root)

    # -- What its processes get -----------------------------------------------------------------------------------

    @property
    def argv(self) -> tuple[str, ...]:
        """Command line of the main process."""
        entrypoint = self.image.entrypoint if self.spec.entrypoint is None else self.spec.entrypoint
        command = self.spec.command
        if command is None:
            # As with Docker, another entrypoint drops the image's command.
            command = self.image.command if self.spec.entrypoint is None else ()
        return (*entrypoint, *command)

    def identity(self, user: str | None) -> Identity | None:
        """Return who ``user`` is in here; None when there is no such user."""
        return resolve(self.files, user) if user else Identity()

    def environment(self, who: Identity | None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables of a command."""
        home = home_of(self.files, who.uid) if who else "/"
        fixed = {"PATH": PATH, "HOSTNAME": self.spec.hostname or self.id[:12], "HOME": home}
        return {**fixed, **self.image.env, **self.spec.env, **(extra or {})}

    def _files_for_start(self) -> None:
        """A tmpfs is empty at each start."""
        for mount in self.spec.mounts:
            if mount.kind == "tmpfs":
                self.files.mount(mount.target, _tmpfs(mount.size), read_only=mount.read_only)

    def _make_files(self) -> Files:
        root = _root(self.image, self._programs)
        writable = Files(root)
        files = Files(root, read_only=self.spec.read_only)
        hostname = self.spec.hostname or self.id[:12]
        network = Directory()
        for interface in ("lo",) if self.spec.network == "none" else ("eth0", "lo"):
            network.put(interface, Directory())
        fixed: dict[str, Node] = {"/dev": make_devices(), "/proc": self._processes, "/sys/class/net": network}
        fixed["/etc/hostname"] = File(f"{hostname}\n".encode())
        mounts = {target: (node, target != "/etc/hostname") for target, node in fixed.items()}
        for mount in self.spec.mounts:
            mounts[mount.target] = (self._source(mount.kind, mount.source, mount.size), mount.read_only)
        for target, (node, read_only) in sorted(mounts.items(), key=lambda pair: PurePosixPath(pair[0]).parts):
            # The mount points are made in the layer itself, also where the container may not write to it.
            writable.mount(target, node, read_only=read_only)
            files.mount(writable.locate(target).path, node, read_only=read_only)
        return files

    def _source(self, kind: str, source: str, size: int | None) -> Node:
        if kind == "bind":
            return HostNode(Path(source).resolve())
        if kind == "volume":
            return self._volumes.setdefault(source, Directory())
        return _tmpfs(size)


def _mount_table(spec: ContainerSpec) -> bytes:
    """Return what ``/proc/mounts`` says."""
    kinds = {"bind": "ext4", "volume": "ext4", "tmpfs": "tmpfs"}
    lines = [f"overlay / overlay {'ro' if spec.read_only else 'rw'} 0 0", "proc /proc proc rw 0 0"]
    for mount in spec.mounts:
        source = "tmpfs" if mount.kind == "tmpfs" else "/dev/host"
        lines.append(f"{source} {mount.target} {kinds[mount.kind]} {'ro' if mount.read_only else 'rw'} 0 0")
    return "".join(f"{line}\n" for line in lines).encode()


def _tmpfs(size: int | None) -> Directory:
    return Directory(0o1777, Identity(), Quota(size) if size is not None else None)


def _root(image: FakeImage, programs: Mapping[str, Program]) -> Directory:
    """Build the tree of an image; programs that a test has added are in it, too."""
    root = make_tree(image.image)
    files = Files(root)
    for name in set(programs) - set(standard_programs()):
        files.make_directory(_OWN_PROGRAMS, parents=True)
        files.write(f"{_OWN_PROGRAMS}/{name}", MAGIC + name.encode() + b"\n")
        files.change_mode(f"{_OWN_PROGRAMS}/{name}", 0o755, Identity())
    return root
