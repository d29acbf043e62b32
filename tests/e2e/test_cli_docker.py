"""The installed command on a real engine and registry: streams, codes, signals and terminals."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from oubliette_core.testing.faults import Stalled, Status
from oubliette_core.testing.images import random_layer
from oubliette_core.testing.registry import FaultRegistry
from tests.core.cli.test_root import EXPENSIVE, loaded_by
from tests.engine import Engine
from tests.images import ImageMaker

DEV = {"OUBLIETTE_DEV": "1"}
SCRIPT = Path(sys.executable).with_name("oubliette")


@attrs.frozen(kw_only=True)
class Installed:
    """``oubliette`` with a home of the test's own, on the engine for tests."""

    home: Path
    environ: Mapping[str, str]

    def configure(self, types: Mapping[str, object]) -> None:
        """Write the configuration's container types."""
        self._write({"containers": types})

    def mirror(self, registry: str, mirror: str) -> None:
        """Write a configuration that has nothing but a mirror."""
        self._write({"registries": {"mirrors": {registry: mirror}}})

    def _write(self, configuration: Mapping[str, object]) -> None:
        file = self.home / "config" / "oubliette.jsonc"
        file.parent.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        file.write_text(json.dumps(configuration), encoding="utf-8")
        file.chmod(0o600)

    def __call__(
        self, *words: str, code: int = 0, stdin: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> tuple[bytes, str]:
        """Run a command to its end; return what it printed."""
        variables = {**self.environ, **(environ or {})}
        done = subprocess.run([SCRIPT, *words], input=stdin, capture_output=True, env=variables, check=False)
        stderr = done.stderr.decode()
        assert code == done.returncode, stderr
        assert "Traceback" not in stderr
        return done.stdout, stderr

    def json(self, *words: str) -> Any:
        """Run a command and return the JSON that it prints."""
        return json.loads(self(*words, "--json")[0])

    @contextlib.contextmanager
    def started(self, *words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command; it does not outlive the block."""
        pipe = subprocess.PIPE
        settings = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **streams}
        with subprocess.Popen([SCRIPT, *words], env=self.environ, **settings) as child:
            try:
                yield child
            finally:
                child.kill()


@contextlib.contextmanager
def installed(engine: Engine, home: Path) -> Iterator[Installed]:
    """Give the command with a home; what is made with it is removed at the end."""
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("COVERAGE")
    }
    environ = {
        **kept,
        "OUBLIETTE_HOME": str(home),
        "CONTAINER_RUNTIME": "docker",
        "DOCKER_HOST": engine.docker_host,
        "TERM": "xterm",
    }
    command = Installed(home=home, environ=environ)
    yield command
    if (home / "data").exists():
        for project in command.json("project", "list"):
            command("project", "delete", project["id"], "--yes")


@pytest.fixture
def oubliette(engine: Engine, tmp_path: Path, images: ImageMaker) -> Iterator[Installed]:
    """The command, with a home that does not exist yet. Its containers go before the images that they use."""
    with installed(engine, tmp_path / "home") as command:
        yield command


@pytest.fixture(scope="module")
def web(engine: Engine, busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The command with a project ``web`` whose container runs; shared by tests that leave it as it is."""
    home = tmp_path_factory.mktemp("web") / "home"
    with contextlib.closing(ImageMaker(engine, busybox)) as images, installed(engine, home) as command:
        command.configure({"base": images.push("base").reference})
        command("init", "--no-pull")
        command("project", "create", "web")
        command("container", "start", "web")
        yield command


# -- Starting -----------------------------------------------------------------------------------------------------


def test_a_list_loads_what_looks_and_nothing_that_acts(web: Installed) -> None:
    """It is asked for all the time: no images, no commands, no builds, no engine SDK, no archives, no other runtime."""
    web("container", "list")  # now the configuration is in the cache
    loaded = loaded_by("container", "list", environ=web.environ)
    parts = {"_exec", "_exec_calls", "_killer", "_process", "_build", "_image_archives", "_archive", "_logs", "_tls"}
    others = {
        "oubliette_apple",
        "asyncio",
        "oubliette_core.images",
        "oubliette_core.server",
        "tarfile",
        "concurrent.futures",
    }

    assert "oubliette_docker._containers" in loaded
    assert (
        set() == (EXPENSIVE - {"sqlite3", "cattrs"} | others | {f"oubliette_docker.{part}" for part in parts}) & loaded
    )


# -- Pulling ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stalled(oubliette: Installed, images: ImageMaker, fault_registry: FaultRegistry) -> Stalled:
    """The fault of a layer that stops in the middle, of the only configured image."""
    # A layer that the engine cannot have yet: otherwise it asks for none.
    image = images.make(layers=[random_layer(1, uuid.uuid4().hex)])
    oubliette.configure({"base": fault_registry.add(image, "team/base", "v1")})
    oubliette("init", "--no-pull")
    fault = Stalled()
    fault_registry.fail("team/base", fault)
    return fault


@pytest.mark.parametrize("words", [("image", "pull"), ("init",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stalled_pull_ends_within_two_seconds_of_a_signal(
    oubliette: Installed, stalled: Stalled, words: tuple[str, ...], number: signal.Signals
) -> None:
    """With the code 130 and one word about it."""
    with oubliette.started(*words) as child:
        assert stalled.reached.wait(30)
        began = time.monotonic()
        child.send_signal(number)
        _, stderr = child.communicate(timeout=30)
        took = time.monotonic() - began

    assert (130, True) == (child.returncode, stderr.endswith(b"Interrupted.\n")), stderr
    assert b"Traceback" not in stderr
    assert took < 2.0


def test_a_bar_is_shown_on_a_terminal_which_is_left_in_order(oubliette: Installed, stalled: Stalled) -> None:
    """The cursor is hidden while a bar is drawn; Ctrl-C brings it back."""
    with _terminal() as (screen, terminal), oubliette.started("image", "pull", stderr=terminal) as child:
        assert stalled.reached.wait(30)
        shown = _read_until(screen, b"\x1b[?25l")
        child.send_signal(signal.SIGINT)
        shown += _read_until(screen, b"Interrupted.")
        child.wait(30)

    assert 130 == child.returncode
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_init_survives_a_pull_that_fails(
    oubliette: Installed, images: ImageMaker, fault_registry: FaultRegistry
) -> None:
    """It says how to repeat it; the other image is here."""
    private = fault_registry.add(images.make(), "team/private", "v1")
    fault_registry.fail("team/private", Status(401, on="manifest"))
    good = images.push("good").reference
    oubliette.configure({"private": private, "good": good})
    stdout, stderr = oubliette("init")

    assert f"good: pulled {good}" in stdout.decode()
    assert "warning: private: " in stderr
    assert "pull it later: oubliette image pull private\n" in stderr
    assert {"private": False, "good": True} == {
        one["type"]: one["local"] is not None for one in oubliette.json("image", "list")
    }


def test_in_dev_mode_no_network_is_used(
    oubliette: Installed, images: ImageMaker, fault_registry: FaultRegistry
) -> None:
    """An absent image is an error that says how to build it."""
    oubliette.configure({"base": fault_registry.add(images.make(), "team/base", "v1")})
    oubliette("init", environ=DEV)
    oubliette("project", "create", "web", environ=DEV)
    _, stderr = oubliette("container", "start", "web", code=4, environ=DEV)

    assert "hint: Build it" in stderr
    assert 0 == len(fault_registry.requests())


# -- Containers ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_container_lives_from_start_to_delete(oubliette: Installed, images: ImageMaker) -> None:
    """A new image under the same tag arrives by a refresh; workspace and home stay, the rest is new."""
    reference = images.push("base", files={"/etc/version": "1"}).reference
    oubliette.configure({"base": reference})
    oubliette("init")
    made = oubliette.json("project", "create", "web")
    (Path(made["workspace"]) / "from-here").write_text("kept", encoding="utf-8")
    oubliette("container", "start", "web")
    oubliette(
        "container", "exec", "web", "sh", "-c", "echo kept >~/home; echo lost >/tmp/lost; cat /workspace/from-here"
    )
    images.push("base", files={"/etc/version": "2"})
    (refreshed,) = oubliette.json("container", "refresh", "web")
    inside, _ = oubliette("container", "exec", "web", "sh", "-c", "cat /etc/version ~/home; ls /tmp")
    (listed,) = oubliette.json("container", "list")

    assert (True, "running") == (refreshed["image_changed"], listed["state"])
    assert b"2kept\n" == inside
    assert listed["container"]["image_id"] == refreshed["image_id"] != refreshed["previous_image_id"]
    oubliette("container", "stop", "--all")
    assert [] == oubliette.json("container", "list")
    oubliette("project", "delete", "web", "--yes")
    assert [] == oubliette.json("project", "list")


def test_a_refresh_that_fails_leaves_the_old_container_running(
    oubliette: Installed, images: ImageMaker, fault_registry: FaultRegistry
) -> None:
    """It never looks like success."""
    oubliette.configure({"base": fault_registry.add(images.make(), "team/base", "v1")})
    oubliette("init")
    oubliette("project", "create", "web")
    oubliette("container", "start", "web")
    before = oubliette.json("container", "list")
    fault_registry.fail("team/base", Status(403, on="manifest"))
    _, stderr = oubliette("container", "refresh", "web", code=1)

    assert stderr.splitlines()[-2].startswith("error: ")
    assert before == oubliette.json("container", "list")


# -- Commands in them ---------------------------------------------------------------------------------------------


def test_twelve_megabytes_pass_through_unchanged_in_both_directions(web: Installed) -> None:
    """Binary, with zeros and everything that a terminal would act on."""
    data = random.Random(7).randbytes(12_000_000)  # noqa: S311 - any bytes will do
    stdout, stderr = web("container", "exec", "web", "--", "cat", stdin=data)

    assert hashlib.sha256(data).digest() == hashlib.sha256(stdout).digest()
    assert "" == stderr


def _stdout(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    return child.stdout.fileno()


def test_much_output_needs_little_memory(web: Installed) -> None:
    """It is passed on as it comes."""
    command = [str(SCRIPT), "container", "exec", "web", "--", "head", "-c", "100000000", "/dev/zero"]
    with subprocess.Popen(command, env=web.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        total = peak = 0
        while chunk := os.read(_stdout(child), 1 << 20):
            total += len(chunk)
            peak = max(peak, _peak_kb(child.pid))

    assert (100_000_000, 0) == (total, child.returncode)
    assert 1_000 < peak < 120_000


def _peak_kb(pid: int) -> int:
    """Return the most memory that a process has had; what `wait4` tells includes that of its parent, before exec."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["no-such-command"], 127),
        (["/etc"], 126),
    ],
)
def test_the_exit_code_is_that_of_the_command(web: Installed, words: list[str], code: int) -> None:
    """Or says why there was none."""
    web("container", "exec", "web", "--", *words, code=code)


def test_at_the_deadline_nothing_of_the_command_is_left(web: Installed) -> None:
    """Not even what left its session and its environment; what it printed is here."""
    script = "setsid sleep 54321 & env -i sleep 54321 & echo begun; sleep 54321"
    stdout, stderr = web("container", "exec", "--timeout", "2", "web", "--", "sh", "-c", script, code=124)

    assert b"begun\n" == stdout
    assert "error: web: the command did not end within 2 s and was killed\n" == stderr
    assert b"54321" not in web("container", "exec", "web", "--", "ps")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_the_container(web: Installed, number: signal.Signals) -> None:
    """Within two seconds, with the code 130."""
    with web.started("container", "exec", "web", "--", "sh", "-c", "echo begun; sleep 65432") as child:
        assert child.stdout is not None
        assert b"begun\n" == child.stdout.readline()
        began = time.monotonic()
        child.send_signal(number)
        child.communicate(timeout=30)
        took = time.monotonic() - began

    assert 130 == child.returncode
    assert took < 2.0
    assert b"65432" not in web("container", "exec", "web", "--", "ps")[0]


def test_when_the_reader_goes_the_command_ends(web: Installed) -> None:
    """``oubliette container exec web -- yes | head`` does not leave it running."""
    with web.started("container", "exec", "web", "--", "yes", "76543") as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert 141 == child.wait(30)

    assert b"76543" not in web("container", "exec", "web", "--", "ps")[0]


@contextlib.contextmanager
def _terminal(rows: int = 24, columns: int = 80) -> Iterator[tuple[int, int]]:
    """Give a terminal: the side of the person, and that of the program."""
    person, program = pty.openpty()
    _resize(program, rows, columns)
    try:
        yield person, program
    finally:
        os.close(person)
        os.close(program)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read_until(screen: int, text: bytes, timeout: float = 30.0) -> bytes:
    """Read what is shown until ``text`` has come."""
    shown = b""
    deadline = time.monotonic() + timeout
    while text not in shown:
        ready, _, _ = select.select([screen], [], [], deadline - time.monotonic())
        assert ready, f"{text!r} is not in {shown!r}"
        shown += os.read(screen, 65536)
    return shown


def test_a_shell_is_interactive(web: Installed) -> None:
    """It has a terminal of our size, which follows ours; its end is ours, and our terminal is as it was."""
    with _terminal(33, 111) as (screen, terminal):
        before = termios.tcgetattr(terminal)
        streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
        with web.started("container", "shell", "web", **streams, start_new_session=True) as child:
            _read_until(screen, b"# ")
            os.write(screen, b"echo $TERM $((6*7)); stty size\n")
            shown = _read_until(screen, b"33 111")
            _resize(terminal, 44, 122)
            child.send_signal(signal.SIGWINCH)
            # Who prints is in the foreground by then; a shell that is about to put it there would miss the Ctrl-C.
            os.write(screen, b"until stty size | grep -q 44; do :; done; sh -c 'stty size; sleep 100'\n")
            _read_until(screen, b"44 122")
            os.write(screen, b"\x03")  # Ctrl-C is the shell's, not ours
            os.write(screen, b"exit 5\n")
            assert 5 == child.wait(30)
        after = termios.tcgetattr(terminal)

    assert b"xterm 42" in shown
    assert before == after


def test_a_command_can_have_a_terminal(web: Installed) -> None:
    """With ``-t``; without it there is none, even where we have one."""
    with _terminal() as (screen, terminal):
        streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
        with web.started("container", "exec", "-t", "web", "tty", **streams, start_new_session=True) as child:
            assert b"/dev/pts/" in _read_until(screen, b"\n")
            assert 0 == child.wait(30)
        with web.started("container", "exec", "web", "tty", **streams, start_new_session=True) as child:
            assert b"not a tty" in _read_until(screen, b"\n")
            assert 1 == child.wait(30)


# -- The rest -----------------------------------------------------------------------------------------------------


def test_projects_are_completed(web: Installed) -> None:
    """Where a project is expected, by name."""
    completion = {"_OUBLIETTE_COMPLETE": "complete_bash", "COMP_WORDS": "oubliette container stop w", "COMP_CWORD": "3"}

    assert (b"web\n", "") == web(environ=completion)


def test_doctor_names_the_engine(web: Installed) -> None:
    """And who chose it."""
    found = {one["subject"]: one for one in web.json("doctor")}

    assert web.environ["DOCKER_HOST"] in found["chosen"]["detail"]
    assert "ok" == found["chosen"]["verdict"]
