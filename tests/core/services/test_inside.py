"""Looking from inside: any shell tells the truth, and what an image makes up is not believed."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import StartFailedError
from oubliette_core.models import Capability, ContainerSpec, ExecSpec, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.services import inside
from oubliette_core.services.inside import View, add_names, look
from oubliette_core.testing.fake import FakeRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oubliette_core.runtime import Runtime
    from oubliette_core.testing.fake import Task

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox", "zsh", "mksh") if shutil.which(shell)]
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nalias:x:1000:7::/:/bin/sh\n"
VIEW = View(nonce="n", uid=1000, gid=1000, outside_uid=1000, outside_gid=1000, users=(), groups=())


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    """A runtime in memory with an image ``app:1``."""
    fake = FakeRuntime(RuntimeSettings())
    fake.engine.add_image("app:1", files={"/etc/passwd": PASSWD, "/etc/group": b"root:x:0:\n"})
    yield fake
    fake.engine.shut_down()


@pytest.fixture
def runtime(fake: FakeRuntime) -> Runtime:
    """The same behind its face."""
    return build_runtime("fake", fake)


def started(runtime: Runtime, user: str | None = None, **settings: object) -> str:
    """Return the id of a running container."""
    spec = ContainerSpec(image="app:1", user=user, command=("sleep", "1000"), **settings)  # type: ignore[arg-type]
    return runtime.start(runtime.create(spec).id).id


def read(runtime: Runtime, container: str, path: str) -> str:
    """Return the content of a file in a container."""
    return runtime.exec(container, ExecSpec(command=("cat", path))).stdout.decode()


def run_here(shell: str, script: str, *arguments: str) -> str:
    """Run a script in a shell of this machine, with none of its programs; return what it printed."""
    argv = [shutil.which(shell) or shell, *(["sh"] if shell == "busybox" else []), "-c", script, "sh", *arguments]
    return subprocess.run(argv, env={"PATH": "/nowhere"}, check=True, capture_output=True, text=True).stdout


# -- The scripts, in real shells ----------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")  # noqa: PTH110
@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_tells_nonce_and_user_with_its_builtins_alone(shell: str, tmp_path: Path) -> None:
    """Images have whatever shell they have, and often nothing else."""
    (tmp_path / "nonce").write_text("abc 'def'\n")
    printed = run_here(shell, inside._LOOK, str(tmp_path / "nonce")).splitlines()

    assert "nonce abc 'def'" == printed[0]
    assert {f"uid {os.geteuid()}", f"gid {os.getegid()}"} <= set(printed)
    assert any(line.startswith("uid_map 0 0 ") for line in printed) or os.geteuid() != 0
    assert "end" == printed[-1]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")  # noqa: PTH110
@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_goes_on_when_there_is_no_nonce(shell: str, tmp_path: Path) -> None:
    """It is the absence that has to be told."""
    printed = run_here(shell, inside._LOOK, str(tmp_path / "nothing")).splitlines()

    assert not [line for line in printed if line.startswith("nonce")]
    assert "end" == printed[-1]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "old", ["", "root:x:0:0:root:/root:/bin/sh\n", "a:x:1:1::/:/bin/sh\nno newline", "back\\slash\n"]
)
def test_any_shell_puts_a_name_first_and_keeps_the_others(shell: str, old: str, tmp_path: Path) -> None:
    """The first entry is what the number is called."""
    file = tmp_path / "passwd"
    file.write_text(old)
    run_here(shell, inside._ADD_NAME, str(file), "new:x:5:5:%s:/:/bin/sh")

    assert f"new:x:5:5:%s:/:/bin/sh\n{old}".rstrip("\n") == file.read_text().rstrip("\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_makes_the_file_where_there_is_none(shell: str, tmp_path: Path) -> None:
    """Images from scratch have no ``/etc/passwd``."""
    run_here(shell, inside._ADD_NAME, str(tmp_path / "passwd"), "new:x:5:5::/:/bin/sh")

    assert "new:x:5:5::/:/bin/sh\n" == (tmp_path / "passwd").read_text()


# -- In a container -----------------------------------------------------------------------------------------------


def test_what_a_container_sees(runtime: Runtime) -> None:
    """Its user's numbers and all names that the image has for them."""
    view = look(runtime, started(runtime, "1000:1000"), "nonce")

    assert ("", 1000, 1000, ("node", "alias"), ()) == (view.nonce, view.uid, view.gid, view.users, view.groups)


def test_a_number_without_a_name_gets_one(runtime: Runtime) -> None:
    """Programs that ask who they are get an answer."""
    container = started(runtime, "4321:4322")
    add_names(runtime, container, look(runtime, container, "nonce"), named=True)
    view = look(runtime, container, "nonce")

    assert (("oubliette",), ("oubliette",)) == (view.users, view.groups)
    assert PASSWD.decode() in read(runtime, container, "/etc/passwd")


def test_a_number_that_the_image_has_named_gets_our_name_first(runtime: Runtime) -> None:
    """USER, the name and the home directory agree; the image's name still works."""
    container = started(runtime, "1000:1000")
    add_names(runtime, container, look(runtime, container, "nonce"), named=True)
    again = look(runtime, container, "nonce")
    add_names(runtime, container, again, named=True)

    assert ("oubliette", "node", "alias") == again.users
    assert f"oubliette:x:1000:1000:oubliette:/home/oubliette:/bin/sh\n{PASSWD.decode()}" == read(
        runtime, container, "/etc/passwd"
    )


def test_the_images_own_user_keeps_its_name(runtime: Runtime) -> None:
    """We did not choose it."""
    container = started(runtime, "1000:1000")
    add_names(runtime, container, look(runtime, container, "nonce"), named=False)

    assert PASSWD.decode() == read(runtime, container, "/etc/passwd")


def test_the_superuser_is_called_root(runtime: Runtime, fake: FakeRuntime) -> None:
    """Also in an image that has no users at all."""
    fake.engine.add_image("app:1", "2", files={"/etc/passwd": b"", "/etc/group": b""})
    container = started(runtime)
    add_names(runtime, container, look(runtime, container, "nonce"), named=False)

    assert (("root",), ("root",)) == (look(runtime, container, "n").users, look(runtime, container, "n").groups)


def test_a_root_that_is_read_only_leaves_the_number_without_a_name(runtime: Runtime) -> None:
    """That is no reason not to run."""
    container = started(runtime, "4321:4322", read_only=True)
    add_names(runtime, container, look(runtime, container, "nonce"), named=True)

    assert () == look(runtime, container, "nonce").users


def test_where_no_other_user_can_be_asked_for_the_name_is_left(fake: FakeRuntime, runtime: Runtime) -> None:
    """Adding it needs the superuser."""
    container = started(runtime, "4321:4322")
    fake.engine.capabilities -= {Capability.USER}
    add_names(runtime, container, VIEW, named=True)

    assert PASSWD.decode() == read(runtime, container, "/etc/passwd")


@pytest.mark.parametrize(
    "said",
    ["", "uid x\ngid 0\nend", "uid 0\nend", "uid 0\ngid 0", "uid 99999999999999\ngid 0\nend", "uid ٣\ngid 0\nend"],
)
def test_a_shell_that_says_something_else_is_not_believed(fake: FakeRuntime, runtime: Runtime, said: str) -> None:
    """An image can have anything under that name."""

    def shell(task: Task) -> int:
        task.write(said)
        return 0

    container = started(runtime)
    fake.engine.programs["sh"] = shell
    with pytest.raises(StartFailedError) as caught:
        look(runtime, container, "nonce")

    assert "did not tell as whom it runs" in caught.value.message


def test_names_that_an_image_makes_up_are_passed_over(fake: FakeRuntime, runtime: Runtime) -> None:
    """They could hold anything."""
    fake.engine.add_image("app:1", "2", files={"/etc/passwd": b"$(id)\x1b:x:0:0::/:/bin/sh\nok:x:0:0::/:/bin/sh\n"})

    assert ("ok",) == look(runtime, started(runtime), "nonce").users


@pytest.mark.parametrize(
    ("number", "lines", "expected"),
    [
        (0, ["0 0 4294967295"], 0),
        (0, ["0 100000 65536"], 100000),
        (33, ["0 1000 1", "1 100000 65536"], 100032),
        (0, ["0 1000 1", "1 100000 65536"], 1000),
        (70000, ["0 100000 65536"], None),
        (7, [], 7),
        (0, ["x y z", "0 0", "0 -1 5", "0 5 99999999999999999999"], None),
    ],
)
def test_ids_are_translated_by_the_map_of_the_user_namespace(
    number: int, lines: list[str], expected: int | None
) -> None:
    """As user_namespaces(7) has it; what is no map tells nothing."""
    assert expected == inside._outside(number, lines)
