"""The supervisor: from the start of a container to the record of its end."""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from resource import RLIMIT_NPROC, prlimit

from oubliette_embedded.supervisor import files, kernel
from oubliette_embedded.supervisor.files import ignored
from oubliette_embedded.supervisor.inside import Namespaces, apart, cover
from oubliette_embedded.supervisor.loop import wait_readable
from oubliette_embedded.supervisor.output import Output
from oubliette_embedded.supervisor.plan import Files, Plan
from oubliette_embedded.supervisor.record import boot_id, hold_life, start_time, write_record
from oubliette_embedded.supervisor.rights import receive
from oubliette_embedded.supervisor.sandbox import Launch, NotStartedError, OwnNamespaces, Sandbox, launch
from oubliette_embedded.supervisor.trampoline import ABSENT, call, trampoline
from oubliette_embedded.supervisor.words import read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oubliette_embedded.supervisor.network import Carrier
    from oubliette_embedded.supervisor.service import Service

__all__ = ["main"]

_RUNTIME = 0
"""The descriptor of the socket by which the runtime gives the plan, and waits for the outcome of the start."""
_EXECUTING = 20.0
"""Seconds until the main process has to have been executed."""
_SETTLE = 0.25
"""Seconds that a main process which never rests is watched before it counts as running."""
_LOOK_EVERY = 0.001


def main() -> None:
    """Run a container, as soon as it is said which."""
    runtime = socket(AF_UNIX, SOCK_SEQPACKET, fileno=os.dup(_RUNTIME))
    program = trampoline(os.uname().machine)
    if not wait_readable(_RUNTIME, 0):
        _import_what_comes()
    message, descriptors = receive(runtime)
    runtime.close()
    if not message:
        return  # it could not even be described
    body, *others = descriptors
    plan, files = Plan.read(read_all(body)), Files(*others)
    os.close(body)
    directory = os.open(plan.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _write_errors_to("supervisor.log", directory)
    try:
        hold_life(os.fsdecode(plan.directory) + "/alive")
        _Run(plan, files, directory, program).run()
    except (NotStartedError, OSError) as error:
        _report(f"failed {error}")
        raise


def _import_what_comes() -> None:
    """Import what is needed after bubblewrap was started, while there is nothing else to do."""
    from oubliette_embedded.supervisor import network, service  # noqa: F401, PLC0415


def _write_errors_to(name: str, directory: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(name, flags, 0o600, dir_fd=directory)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _report(text: str) -> None:
    """Tell how the start went, and let go of everything that was held for it."""
    with ignored(OSError):
        os.write(_RUNTIME, text.encode(errors="replace"))


class _Run:
    """One run of a container.

    :param directory: descriptor of the container's. :param program: of the trampoline.
    """

    def __init__(self, plan: Plan, files: Files, directory: int, program: int) -> None:
        self._plan = plan
        self._files = files
        self._directory = directory
        self._started_at = time.time()
        self._trampoline = program
        self._carrier: Carrier | None = None
        self._members = [group + b"/cgroup.procs" for group in plan.groups]

    def run(self) -> None:
        """Start it, serve it, record its end."""
        kernel.reap_orphans()
        printed, printing = os.pipe()
        os.set_blocking(printed, False)
        sandbox = self._launch(printing)
        os.close(printing)
        try:
            namespaces, service = self._complete(sandbox, printed)
        except BaseException:
            os.kill(sandbox.bwrap, kernel.SIGKILL)
            raise
        sandbox.release()
        code = self._settle(sandbox, service)
        running = code is None
        if running:
            service.hold_main()
            self._record("running", sandbox, durable=False)
            self._end_start("running")
            self._watch_memory(service)
            code = service.serve()
        service.close()
        if self._carrier:
            self._carrier.close()
        namespaces.close()
        self._finish(sandbox, code or 0)
        service.tell_end()
        if not running:
            self._end_start(f"ended {code}")

    def _end_start(self, report: str) -> None:
        _report(report)
        os.close(self._files.lock)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, _RUNTIME)
        os.close(null)

    def _launch(self, output: int) -> Sandbox:
        plan = self._plan
        namespaces = OwnNamespaces(plan.user, network=plan.own_network) if plan.mapped else None
        made = Launch(
            program=self._files.program,
            library=self._files.library,
            arguments=self._files.arguments,
            system_calls=self._files.system_calls,
            trampoline=self._trampoline,
            argv=call(plan.argv, dict(word.split(b"=", 1) for word in plan.env)),
            user=plan.user if plan.mapped else None,
            namespaces=namespaces,
            groups=self._members,
            output=output,
        )
        sandbox = launch(made, os.getpid())
        if namespaces:
            if plan.network:
                self._connect(namespaces.user, namespaces.net)
            namespaces.close()
        return sandbox

    def _complete(self, sandbox: Sandbox, printed: int) -> tuple[Namespaces, Service]:
        """See the sandbox made, complete it, and get ready to serve it."""
        # While bubblewrap is at work there is time for what it does not need, and to import what is needed from now on.
        from oubliette_embedded.supervisor.commands import Rules  # noqa: PLC0415
        from oubliette_embedded.supervisor.service import Service  # noqa: PLC0415

        plan = self._plan
        self._output = Output(self._directory, plan.output_limit)
        self._oom_kills_before = self._oom_kills()
        sandbox.read_first()
        self._record("starting", sandbox, durable=False)
        sandbox.wait_made()
        namespaces = Namespaces(sandbox.first)
        if plan.network and self._carrier is None:
            self._connect(*namespaces.of_network())
        covering = apart(lambda: cover(namespaces, own_network=plan.own_network))
        rules = Rules(
            namespaces=namespaces,
            env=plan.env,
            user=plan.user,
            mapped=plan.mapped,
            workdir=plan.workdir,
            capabilities=plan.capabilities,
            processes=plan.processes,
            system_calls=read_all(self._files.system_calls),
            groups=self._members,
            trampoline=self._trampoline,
        )
        service = Service(
            plan=plan,
            directory=self._directory,
            sandbox=sandbox,
            namespaces=namespaces,
            rules=rules,
            output=self._output,
            printed=printed,
        )
        if os.waitpid(covering, 0)[1] != 0:
            raise NotStartedError("the machine's own files could not be covered in the sandbox")
        if plan.processes:
            self._limit_processes(service)
        if self._carrier:
            self._carrier.wait(sandbox.first)
        return namespaces, service

    def _limit_processes(self, service: Service) -> None:
        main = service.main_process()
        if main == 0:  # which would mean this process
            raise NotStartedError("the main process was not found, so its processes could not be limited")
        prlimit(main, RLIMIT_NPROC, (self._plan.processes, self._plan.processes))

    def _connect(self, user: int, net: int) -> None:
        from oubliette_embedded.supervisor.network import Carrier  # noqa: PLC0415 - not always needed

        self._carrier = Carrier(self._plan.network, user, net)

    def _settle(self, sandbox: Sandbox, service: Service) -> int | None:
        """Wait until the main process runs, and rests or has been at work for a while; its exit code if it ended."""
        if not wait_readable(sandbox.executed, _EXECUTING):
            raise NotStartedError("the main process was not executed in time")
        reason = os.read(sandbox.executed, 1)
        os.close(sandbox.executed)
        if reason:
            service.serve()
            return 127 if reason[0] in ABSENT else 126
        deadline = time.monotonic() + _SETTLE
        while not _rests(service.main_process()) and time.monotonic() < deadline:
            if (code := service.serve(_LOOK_EVERY)) is not None:
                return code
        return None

    def _watch_memory(self, service: Service) -> None:
        """Have the kernel count when it kills the main process for want of memory, also where that has no limit.

        It takes up to 20 ms to move a process into a group, which nobody need wait for.
        """
        group, main = self._plan.memory_group, service.main_process()
        if group and group not in self._plan.groups:
            service.loop.in_background(lambda: files.write(group + b"/cgroup.procs", b"%d" % main))

    def _finish(self, sandbox: Sandbox, code: int) -> None:
        """Write down how it ended, when nothing of it is left."""
        oom_killed = self._oom_kills() > self._oom_kills_before
        for group in {*self._plan.groups, self._plan.memory_group} - {b""}:
            with ignored(OSError):
                os.rmdir(group)
        self._output.close()
        self._record("exited", sandbox, durable=True, exit_code=code, oom_killed=oom_killed, finished_at=time.time())

    def _record(self, status: str, sandbox: Sandbox, *, durable: bool, **end: float) -> None:
        fields: dict[str, str | float | list[int]] = {
            "status": status,
            "boot": boot_id(),
            "supervisor": [os.getpid(), start_time(os.getpid())],
            "first": [sandbox.first, start_time(sandbox.first)],
            "started_at": self._started_at,
            "ip_address": self._plan.address,
            **end,
        }
        write_record(self._directory, fields, durable=durable)

    def _oom_kills(self) -> int:
        """Return how often the kernel has killed in the container's control group for want of memory."""
        if not self._plan.memory_group:
            return 0
        try:
            with open(self._plan.memory_group + b"/" + self._plan.oom_file, "rb") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith(b"oom_kill "))
        except (OSError, ValueError, IndexError):
            return 0


def _rests(pid: int) -> bool:
    """Tell whether a process waits for something."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"S"
    except (OSError, IndexError):
        return False
