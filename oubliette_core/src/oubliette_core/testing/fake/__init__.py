"""A container runtime in memory, for tests: no engine, no root, on any operating system.

    from oubliette_core import RuntimeSettings, build_runtime
    from oubliette_core.testing.fake import FakeRuntime

    fake = FakeRuntime(RuntimeSettings())
    fake.registry.publish("example.com/tools:1", files={"/etc/motd": b"hello"})
    with build_runtime("fake", fake) as runtime:
        runtime.pull("example.com/tools:1")

What a test can do with it:

* ``fake.registry``: publish images and new versions of them, let pulls fail, stall or be slow, count requests.
* ``fake.faults``: let any hook fail, hang until released or cancelled, break off in the middle.
* ``fake.calls``: how often each hook was called, with what, and wait for a call.
* ``fake.engine``: go away and come back, look at containers, pause and kill them, add images and programs.

Images come from its own registry in memory. A reference whose registry is a loopback address with a port, and that
was not published there, is pulled over HTTP: so it works with `oubliette_core.testing.registry`, too.

Commands are interpreted: a POSIX shell without its rarer corners, and the programs that scripts use. They run as
threads with real pipes, signals, exit codes and deadlines. What it does not do: execute binaries, give commands a
network, limit memory or processor time, drop capabilities (it does not declare these). Processes that end are
forgotten at once, so that there are no zombies; ``ulimit`` and ``umask`` do nothing. Bind mounts are the host's files:
there the permissions of the host's user hold as well, and only root can give files to a container's user.
"""

from oubliette_core.testing.fake.container import FakeContainer
from oubliette_core.testing.fake.engine import FakeEngine
from oubliette_core.testing.fake.faults import Calls, Fault, Faults, Gate
from oubliette_core.testing.fake.images import FakeImage, FakeRegistry
from oubliette_core.testing.fake.kernel import Program, Task
from oubliette_core.testing.fake.runtime import FakeRuntime

__all__ = [
    "Calls",
    "FakeContainer",
    "FakeEngine",
    "FakeImage",
    "FakeRegistry",
    "FakeRuntime",
    "Fault",
    "Faults",
    "Gate",
    "Program",
    "Task",
]
