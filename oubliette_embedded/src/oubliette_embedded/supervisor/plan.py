"""What a supervisor is told at its start, as one message: everything that does not change while the container runs."""

from __future__ import annotations

from oubliette_embedded.supervisor.users import User
from oubliette_embedded.supervisor.words import pack, unpack

__all__ = ["Files", "Plan"]

_NUMBERS = (
    *("mapped", "capabilities", "stop_signal", "processes"),
    *("init", "own_network", "output_limit"),
)
"""The fields that are numbers, or true or false."""


class Files:
    """What comes with a plan, as descriptors.

    :param program: bubblewrap. :param arguments: its options. :param system_calls: the program of seccomp(2).
    :param lock: a lock that is let go of when the start is over.
    :param library: one that bubblewrap needs; -1 for none.
    """

    def __init__(self, program: int, arguments: int, system_calls: int, lock: int, library: int = -1) -> None:
        self.program = program
        self.arguments = arguments
        self.system_calls = system_calls
        self.lock = lock
        self.library = library

    def all(self) -> list[int]:
        """Return them in the order in which they are given."""
        found = [self.program, self.arguments, self.system_calls, self.lock, self.library]
        return [descriptor for descriptor in found if descriptor >= 0]


class Plan:
    """How a container is run.

    :param directory: the container's own. :param argv: of the main process.
    :param env: of every process, as ``NAME=value``.
    :param user: whom the container runs as; ``groups`` counts only where all ids are mapped.
    :param mapped: all ids are mapped. :param capabilities: mask of those that uid 0 has.
    :param stop_signal: number of the signal that asks the main process to end.
    :param processes: limit of processes and threads, where no control group sets one; 0 for none.
    :param init: bubblewrap is the first process, and the main process its child.
    :param own_network: it has a network namespace of its own.
    :param network: argv of a program that connects it (see `network.Carrier`); empty for none.
    :param address: its own address in that network; empty for none.
    :param groups: directories of control groups that every process belongs to.
    :param memory_group: directory of the one in which the kernel counts, in ``oom_file``, whom it killed for want of
        memory; empty for none.
    :param output_limit: bytes that are kept of what the main process prints.
    """

    def __init__(
        self,
        *,
        directory: bytes,
        argv: list[bytes],
        env: list[bytes],
        workdir: bytes,
        user: User,
        mapped: int,
        capabilities: int,
        stop_signal: int,
        processes: int,
        init: int,
        own_network: int,
        network: list[bytes],
        address: str,
        groups: list[bytes],
        memory_group: bytes,
        oom_file: bytes,
        output_limit: int,
    ) -> None:
        self.directory = directory
        self.argv = argv
        self.env = env
        self.workdir = workdir
        self.user = user
        self.mapped = bool(mapped)
        self.capabilities = capabilities
        self.stop_signal = stop_signal
        self.processes = processes
        self.init = bool(init)
        self.own_network = bool(own_network)
        self.network = network
        self.address = address
        self.groups = groups
        self.memory_group = memory_group
        self.oom_file = oom_file
        self.output_limit = output_limit

    def write(self) -> bytes:
        """Return the message that `read` reads."""
        numbers = [b"%d" % getattr(self, name) for name in _NUMBERS]
        user = [b"%d" % number for number in (self.user.uid, self.user.gid, *self.user.groups)]
        paths = [self.directory, self.workdir, self.memory_group, self.oom_file]
        paths += [self.user.home.encode(), self.address.encode()]
        return pack(numbers, user, paths, self.argv, self.env, self.network, self.groups)

    @classmethod
    def read(cls, message: bytes) -> Plan:
        """Read what `write` wrote. :raises ValueError: it is something else."""
        digits, ids, paths, argv, env, network, groups = unpack(message)
        directory, workdir, memory_group, oom_file, home, address = paths
        uid, gid, *others = map(int, ids)
        numbers: dict[str, int] = dict(zip(_NUMBERS, map(int, digits), strict=True))
        return cls(
            directory=directory,
            argv=argv,
            env=env,
            workdir=workdir,
            user=User(uid, gid, others, home.decode(errors="replace")),
            network=network,
            address=address.decode(),
            groups=groups,
            memory_group=memory_group,
            oom_file=oom_file,
            **numbers,
        )
