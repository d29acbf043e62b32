"""Starting a container: its sandbox is described, and a supervisor is started that makes it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.errors import InvalidSpecError, OperationTimeoutError, RuntimeUnavailableError, StartFailedError
from oubliette_embedded import _logs
from oubliette_embedded._arguments import Sandboxed, arguments
from oubliette_embedded._bubblewrap import Bubblewrap, BubblewrapError, find_bubblewrap
from oubliette_embedded._control import in_memory
from oubliette_embedded._merged import Merged
from oubliette_embedded._network import ADDRESS, NAMESERVER, Way
from oubliette_embedded._options import RUNTIME, Options
from oubliette_embedded._seccomp import seccomp_program
from oubliette_embedded._specs import mask
from oubliette_embedded._summoning import Summoner
from oubliette_embedded.supervisor.plan import Files, Plan
from oubliette_embedded.supervisor.users import User, find_user

if TYPE_CHECKING:
    from oubliette_embedded._cgroups import ControlGroups
    from oubliette_embedded._definition import Definition
    from oubliette_embedded.images import ImageStore, StoredImage

__all__ = ["Starter"]

_DEADLINE = 30.0
_LAST_OUTPUT = 4096
_MOST_USERS = 1024 * 1024


class Starter:
    """Starts containers.

    :param mapped: all ids of the machine are mapped into containers, not only this user's.
    :param groups: where limits are set. :param way: how containers reach the network.
    """

    def __init__(self, options: Options, images: ImageStore, *, mapped: bool, groups: ControlGroups, way: Way) -> None:
        self._groups = groups
        self._way = way
        self._options = options
        self._images = images
        self._mapped = mapped
        self._bwrap: Bubblewrap | None = None
        self._summoner = Summoner()

    def check(self, definition: Definition, image: StoredImage) -> None:
        """Refuse what could not be started. :raises InvalidSpecError: the image has no such user, or paths are odd."""
        tree = Merged(tuple(reversed(image.layers)))
        _user(tree, definition)
        for path in (definition.workdir, *(mount.target for mount in definition.mounts)):
            tree.resolve(path)

    def start(self, directory: Path, definition: Definition, lock: int) -> None:
        """Start a container that does not run. The caller holds its lock.

        :raises StartFailedError: its main process could not be executed or ended at once.
        """
        with contextlib.closing(self._summoner.summon()) as supervisor:  # it needs a moment to be there
            box = self._box(directory, definition)
            with contextlib.ExitStack() as stack:
                program, library = self._bubblewrap().open()
                stack.callback(_close, library)
                stack.callback(os.close, program)
                options, rules = in_memory("options", self._arguments(box)), in_memory("filter", seccomp_program())
                for descriptor in (options, rules):
                    stack.callback(os.close, descriptor)
                supervisor.tell(self._plan(box), Files(program, options, rules, lock, library))
            with self._summoner.preparing():
                self._read_report(supervisor.report(definition.id), box)

    def _box(self, directory: Path, definition: Definition) -> Sandboxed:
        image = self._images.used(definition.id)
        tree = Merged((directory / "upper", *reversed(image.layers)))
        user = _user(tree, definition)
        _write_etc(directory, definition, connected=self._connected(definition))
        return Sandboxed(
            directory=directory,
            definition=definition,
            layers=image.layers,
            tree=tree,
            user=user,
            mapped=self._mapped,
            volumes=self._options.root / "volumes",
            env={"HOME": user.home or "/", **definition.env},
        )

    def _connected(self, definition: Definition) -> bool:
        return definition.network == "default" and bool(self._way.command)

    @staticmethod
    def _arguments(box: Sandboxed) -> bytes:
        try:
            return arguments(box)
        except InvalidSpecError as error:
            raise StartFailedError(
                error.message, runtime=RUNTIME, subject=box.definition.id, hint=error.hint
            ) from error

    def _plan(self, box: Sandboxed) -> Plan:
        definition = box.definition
        connected = self._connected(definition)
        groups = self._groups.make(definition)
        return Plan(
            directory=os.fsencode(box.directory),
            argv=[os.fsencode(word) for word in definition.argv],
            env=[os.fsencode(f"{name}={value}") for name, value in definition.env.items()],
            workdir=os.fsencode(definition.workdir),
            user=box.user,
            mapped=self._mapped,
            capabilities=mask(definition.capabilities),
            stop_signal=definition.stop_signal,
            processes=0 if "pids" in self._groups.controllers else definition.pids or 0,
            init=definition.init,
            own_network=definition.network != "host",
            network=[os.fsencode(word) for word in self._way.command] if connected else [],
            address=ADDRESS if connected else "",
            groups=[os.fsencode(group) for group in groups.limiting],
            memory_group=os.fsencode(groups.memory or ""),
            oom_file=self._groups.oom_file.encode(),
            output_limit=self._options.output_limit,
        )

    def _bubblewrap(self) -> Bubblewrap:
        if self._bwrap is None:
            try:
                self._bwrap = find_bubblewrap(self._options.bwrap)
            except BubblewrapError as error:
                raise RuntimeUnavailableError(str(error), runtime=RUNTIME, hint=error.hint) from error
        return self._bwrap

    def _read_report(self, line: str, box: Sandboxed) -> None:
        what, _, rest = line.partition(" ")
        if what == "running":
            return
        if what == "ended":
            raise StartFailedError(
                f"container {box.definition.name} ended as soon as it was started",
                exit_code=int(rest),
                output=_logs.tail(box.directory, _LAST_OUTPUT),
                runtime=RUNTIME,
                subject=box.definition.id,
                hint="See what it printed: its command may be missing in the image, or have nothing to wait for.",
            )
        raise StartFailedError(
            f"container {box.definition.name} could not be started: {rest or 'its supervisor was killed'}",
            output=_logs.tail(box.directory, _LAST_OUTPUT),
            runtime=RUNTIME,
            subject=box.definition.id,
            hint="Ask whether this machine can run containers: oubliette runtime show embedded",
        )

    def kill_leftovers(self, directory: Path) -> None:
        """Kill what may be left of a run whose supervisor was killed, and wait until it is gone.

        It is known by its root: no other process has one with this container's upper directory.
        """
        mark = os.fsencode(f"/{directory.name}/upper,")
        deadline = time.monotonic() + _DEADLINE
        while left := _rooted_in(mark):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise OperationTimeoutError(
                    f"processes of container {directory.name} could not be killed",
                    operation="start",
                    timeout=_DEADLINE,
                    runtime=RUNTIME,
                    subject=directory.name,
                )
            time.sleep(0.01)

    def close(self) -> None:
        """Let go of a supervisor that was prepared for the next start. Idempotent."""
        self._summoner.close()

    def forget(self, identity: str) -> None:
        """Remove what a container has outside of its directory."""
        self._groups.remove(identity)


def _rooted_in(mark: bytes) -> list[int]:
    """Find the processes in whose mount namespace a directory is part of an overlay."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(entry.path, "mountinfo").read_bytes():
                    found.append(int(entry.name))
    return found


def _user(tree: Merged, definition: Definition) -> User:
    passwd, group = (tree.read(path, _MOST_USERS) for path in ("/etc/passwd", "/etc/group"))
    user = find_user(definition.user or "0", passwd, group)
    if user is None:
        raise InvalidSpecError(
            f"image {definition.image} has no user {definition.user}",
            value=definition.user,
            hint="Use a number, or a name that its /etc/passwd has.",
        )
    return user


def _write_etc(directory: Path, definition: Definition, *, connected: bool) -> None:
    """Write the container's own files of ``/etc``."""
    resolvers = f"nameserver {NAMESERVER}\n" if connected else ""
    if definition.network == "host":
        with contextlib.suppress(OSError):
            resolvers = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    etc = directory / "etc"
    etc.mkdir(mode=0o755, exist_ok=True)
    own = ADDRESS if connected else "127.0.0.1"
    hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}\t{definition.hostname}\n"
    texts = {"hosts": hosts, "hostname": f"{definition.hostname}\n", "resolv.conf": resolvers}
    for name, text in texts.items():
        path = etc / name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
