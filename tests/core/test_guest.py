"""What runs inside containers does so with a shell alone, misses no process of a command, and touches no other."""

from __future__ import annotations

import contextlib
import platform
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.guest import (
    EXEC_VARIABLE,
    IDLE_COMMAND,
    Doubt,
    Mark,
    Marks,
    Verdict,
    can_supervise,
    kill_tree,
    not_run,
    supervised,
)
from oubliette_core.testing.images import File
from tests.core.boxes import SHELLS, Box, Boxes, shell_files, until
from tests.engine import Engine

AGENT = "1000:1000"
_FORKS_FOR_EVER = """awk 'BEGIN { while (1) system("sleep 1001 &") }'"""
_OF_A_STORM = "sleep (1001|0)|bomb|BEGIN"
STORMS = {
    "a program that starts others for ever": f"{_FORKS_FOR_EVER} & {_FORKS_FOR_EVER}",
    "a fork bomb": "bomb() { bomb & bomb & wait; }; bomb",
    "short-lived orphans": "while :; do (sleep 0.01 & sleep 0.02 &) & sleep 0.001; done",
    "a bomb of sessions": "echo 'while :; do setsid sh /tmp/bomb & setsid sh /tmp/bomb; done' >/tmp/bomb; sh /tmp/bomb",
}


@pytest.fixture(scope="module")
def boxes(engine: Engine, busybox: Path) -> Iterator[Boxes]:
    """Where images and containers come from."""
    with contextlib.closing(Boxes(engine, busybox)) as boxes:
        yield boxes


@pytest.fixture(scope="module", params=SHELLS)
def box(request: pytest.FixtureRequest, boxes: Boxes) -> Iterator[Box]:
    """A container with this shell, in which each test cleans up after itself."""
    with boxes.box(boxes.image(request.param)) as box:
        yield box


@pytest.fixture(autouse=True)
def _clear(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave nothing running in a container that tests share."""
    yield
    for name in {"box", "busybox_box"} & set(request.fixturenames):
        request.getfixturevalue(name).clear()


@pytest.fixture(scope="module")
def busybox_box(boxes: Boxes) -> Iterator[Box]:
    """A container with busybox's shell."""
    with boxes.box(boxes.image("busybox")) as box:
        yield box


# -- The idle command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["TERM", "INT"])
@pytest.mark.parametrize("init", [True, False], ids=["init", "no-init"])
@pytest.mark.parametrize("shell", SHELLS)
def test_idle_ends_at_once(boxes: Boxes, shell: str, init: bool, signal: str) -> None:
    """Stopping a container must not take the whole grace."""
    host = {"Init": init}
    with boxes.box(boxes.image(shell), host, Cmd=IDLE_COMMAND, StopSignal=signal) as box:
        box.wait_for("sleep 2147483647")
        began = time.monotonic()
        box.stop()

        assert 0 == box.exit_code()
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("open_stdin", [True, False], ids=["stdin-open", "no-stdin"])
@pytest.mark.parametrize("tools", ["sleep", "busybox only", "none"])
def test_idle_waits_without_using_the_processor(boxes: Boxes, tools: str, open_stdin: bool) -> None:
    """An idle container costs nothing, whatever its image has."""
    image = {
        "sleep": lambda: boxes.image("busybox"),
        "busybox only": lambda: boxes.image("dash", applets=("busybox",)),
        "none": lambda: boxes.bare_image(shell_files("dash")),
    }[tools]()
    with boxes.box(image, {"Init": False}, Cmd=IDLE_COMMAND, OpenStdin=open_stdin) as box:
        until(box.is_asleep)
        before = box.processor_time()
        time.sleep(0.5)

        assert before == box.processor_time()
        assert box.is_asleep()
        began = time.monotonic()
        box.stop()
        assert 0 == box.exit_code()
        assert time.monotonic() - began < 3


# -- Starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
def test_exit_codes_are_the_commands_own(box: Box, code: int) -> None:
    """Also those that a shell uses itself."""
    mark = box.new_mark()
    answer = box.run(*supervised(("sh", "-c", f"echo said; exit {code}"), mark))

    assert (code, b"said\n", b"") == (answer.code, answer.stdout, answer.stderr)
    assert not not_run(mark, answer.code, answer.stderr)


def test_arguments_arrive_as_they_are(box: Box) -> None:
    """No word of a command is ever read by a shell."""
    words = ("$(echo no)", "`echo no`", "'", '"', "a b", "", "*", "\\", "line\nbreak", "-c", "ü")
    answer = box.run(*supervised(("printf", "[%s]", *words), box.new_mark()))

    assert "".join(f"[{word}]" for word in words).encode() == answer.stdout


def test_the_environment_is_the_one_that_was_given(box: Box) -> None:
    """Also where the shell would have used a variable of that name. Only bash counts itself in SHLVL."""
    given = {name: f"{name}\nsecond line" for name in ("code", "limit", "x", "ENV", "HOME", "LANG", "OPTARG", "UID")}
    plain = box.run("env", "-0", env=given).stdout.split(b"\0")
    marked = box.run(*supervised(("env", "-0"), box.new_mark()), env=given).stdout.split(b"\0")

    assert sorted(plain) == sorted({*marked} - {b"SHLVL=0"})


def test_only_the_mark_is_set(box: Box) -> None:
    """No other limit of the command differs from what the engine gives it."""
    mark = box.new_mark()
    plain = box.run("cat", "/proc/self/limits").stdout.decode().splitlines()
    marked = box.run(*supervised(("cat", "/proc/self/limits"), mark)).stdout.decode().splitlines()
    different = [line.split() for line in marked if line not in plain]

    limit = str(mark.limit * 1024)
    assert [["Max", "resident", "set", limit, limit, "bytes"]] == different


@pytest.mark.parametrize(
    ("command", "code"), [(("no-such-program",), 127), (("/etc/passwd",), 126), (("/etc",), 126), (("/no/such",), 127)]
)
def test_a_command_that_cannot_be_run_is_told_apart(box: Box, command: tuple[str, ...], code: int) -> None:
    """By a word that no command knows, so that none can say it."""
    mark = box.new_mark()
    answer = box.run(*supervised(command, mark), env=mark.variable)

    assert code == answer.code
    assert b"" == answer.stdout
    assert not_run(mark, answer.code, answer.stderr)
    assert not not_run(box.new_mark(), answer.code, answer.stderr)


def test_a_command_cannot_pretend_that_it_was_not_run(box: Box) -> None:
    """It sees its variable and its arguments, and the secret is in neither."""
    mark = box.new_mark()
    seen = box.run(*supervised(("sh", "-c", "env; ps -o args; exit 127"), mark), env=mark.variable)

    assert mark.token.encode() in seen.stdout
    assert mark.secret.encode() not in seen.stdout + seen.stderr


def test_what_the_shell_would_change_is_not_run_through_it() -> None:
    """Then the command is started as it is, and found by its variable."""
    assert can_supervise(("echo", "-n"), ("PATH", "_x", "A1"))
    assert not can_supervise(("-c",), ())
    assert not can_supervise(("echo",), ("npm.config",))
    assert not can_supervise(("echo",), ("a-b",))
    assert not can_supervise(("echo",), ("PATH", "IFS"))


# -- Killing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["", AGENT], ids=["root", "agent"])
def test_the_whole_tree_is_killed_and_nothing_else(box: Box, user: str) -> None:
    """Detached, renamed, without its environment, of another user: all that the command started."""
    bystander = box.spawn("sleep", "1003")
    other, _ = box.spawn_marked("sleep", "1004", user=user)
    script = """
        sleep 1001 & setsid sleep 1001 & env -i /bin/sleep 1001 & (setsid sh -c 'sleep 1001 & sleep 1001' &)
        env -i /bin/setsid /bin/sh -c '/bin/sleep 1001 & exec /bin/sleep 1001' & (trap '' TERM INT HUP; sleep 1001) &
        if [ "$(id -u)" = 0 ]; then su agent -c 'exec sleep 1001' & fi
        wait
    """
    mark, command = box.spawn_marked("sh", "-c", script, user=user)
    box.wait_for("sleep 1001", 8 if user else 9)
    verdict = box.kill(mark)

    assert [] == box.processes("sleep 1001")
    assert verdict.complete
    assert verdict.found
    assert ((), ()) == (verdict.left, verdict.doubts)
    until(lambda: box.has_ended(command))
    assert box.marks.confirms(verdict, ended=True)
    assert not box.has_ended(bystander)
    assert 1 == len(box.processes("sleep 1004"))
    box.kill(other)


def test_nothing_left_is_seen_in_milliseconds(box: Box) -> None:
    """The killer costs little more than any other command."""
    mark = box.new_mark()
    began = time.monotonic()
    box.run("true")
    alone = time.monotonic() - began
    verdict = box.kill(mark)

    assert Verdict(complete=True) == verdict
    assert time.monotonic() - began < 3 * alone + 0.5


def test_several_commands_are_killed_in_one_sweep(box: Box) -> None:
    """Each with all that it started, and each is told of what was found of it; others run on."""
    script = "setsid sleep 1001 & (env -i /bin/sh -c '/bin/setsid /bin/sleep 1001 &'); sleep 1001"
    first, _ = box.spawn_marked("sh", "-c", script)
    bystander, _ = box.spawn_marked("sleep", "1004")
    others = [box.spawn_marked("sh", "-c", script, user=AGENT)[0] for _ in range(3)]
    hidden, _ = box.spawn_marked("sh", "-c", "ulimit -m 1000; (setsid sleep 1001 &); sleep 1001")
    gone = box.new_mark()
    box.wait_for("sleep 1001$", 3 * 4 + 2)
    verdict = box.kill_together(*others, gone, first, hidden)

    assert verdict.complete
    assert () == verdict.left
    found = {mark: verdict.of(mark).found for mark in (first, *others, gone, hidden, bystander)}
    assert [1, 1, 1, 1, 0, 0, 0] == list(found.values())
    assert [] == box.processes("sleep 1001")
    assert 1 == len(box.processes("sleep 1004"))
    box.kill(bystander)


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "storm", [pytest.param(name, marks=[pytest.mark.full] if "bomb" in name else []) for name in STORMS]
)
def test_a_storm_is_ended(boxes: Boxes, storm: str, shell: str) -> None:
    """However fast processes are made, and although the container may not have one more of them."""
    with boxes.box(boxes.image(shell)) as box:
        mark, _ = box.spawn_marked("sh", "-c", STORMS[storm], user=AGENT)
        box.wait_for(_OF_A_STORM, 2)
        verdict = Verdict()
        while not verdict.complete:
            verdict = box.kill(mark, freeze=True)

        assert () == verdict.left
        assert [] == box.living(_OF_A_STORM)


def test_processes_that_continue_each_other_are_killed(busybox_box: Box) -> None:
    """A stopped process can be continued by one that is not stopped yet."""
    box = busybox_box
    script = "while :; do kill -s CONT -- -1 2>/dev/null; sleep 1001 & kill -s KILL $!; done"
    mark, _ = box.spawn_marked("sh", "-c", f"(setsid sh -c '{script}' &); (setsid sh -c '{script}' &); {script}")
    box.wait_for("CONT", 3)
    verdict = Verdict()
    while not verdict.complete:
        verdict = box.kill(mark)

    assert () == verdict.left
    assert [] == box.living("CONT|sleep 1001")


def test_a_zombie_is_not_left(boxes: Boxes) -> None:
    """Where nobody reaps, a dead process stays in the list for ever."""
    with boxes.box(boxes.image("busybox"), {"Init": False}, Cmd=["/bin/sleep", "1005"]) as box:
        mark, _ = box.spawn_marked("sh", "-c", "(setsid sleep 1001 &); (setsid sleep 1001 &); sleep 1001")
        box.wait_for("sleep 1001", 3)
        verdict = box.kill(mark)

        assert verdict.complete
        assert () == verdict.left
        assert box.processes(r"^Z.*sleep")
        assert Verdict(complete=True) == box.kill(mark)


def _thread_survives_main() -> bytes:
    """Write a program for x86-64 Linux whose first thread ends while another one waits for signals."""
    code = bytes.fromhex(
        "bf000f0100"  # mov edi, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
        "be00184000"  # mov esi, the stack
        "31d2 4d31d2 4d31c0"  # xor edx, edx; xor r10, r10; xor r8, r8
        "b838000000 0f05"  # mov eax, clone; syscall
        "85c0 7409"  # test eax, eax; je over what follows
        "31ff b83c000000 0f05"  # xor edi, edi; mov eax, exit (of this thread); syscall
        "b822000000 0f05 ebf7"  # mov eax, pause; syscall; again
    )
    start, size = 0x400000, 64 + 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, start + size, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, start, start, size + len(code), 0x2000, 0x1000)
    return header + segment + code


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is made of x86-64 instructions")
def test_a_process_whose_first_thread_has_ended_is_killed(boxes: Boxes) -> None:
    """It looks like a zombie, and lives."""
    program = File(content=_thread_survives_main(), mode=0o755)
    with boxes.box(boxes.image("busybox", files={"/bin/undead": program})) as box:
        mark, _ = box.spawn_marked("sh", "-c", "setsid undead & wait; sleep 1001")
        box.wait_for(r"^Z.*undead")
        verdict = box.kill(mark)

        assert verdict.complete
        assert () == verdict.left
        assert [] == box.processes("undead|sleep 1001")
        mark, _ = box.spawn_marked("sh", "-c", "ulimit -m 1000; env -i /bin/sh -c '/bin/setsid /bin/undead &'")
        box.wait_for(r"^Z.*undead")
        assert not box.marks.confirms(box.kill(mark), ended=True)


def test_without_the_right_to_kill_it_says_who_is_left(boxes: Boxes) -> None:
    """Root without capabilities cannot kill another user's process; that user can."""
    with boxes.box(boxes.image("busybox"), {"CapAdd": []}) as box:
        mark, _ = box.spawn_marked("sh", "-c", "setsid sleep 1001 & sleep 1001", user=AGENT)
        box.wait_for("sleep 1001", 2)
        as_root = box.kill(mark)

        assert len(as_root.left) >= 2
        assert not box.marks.confirms(as_root, ended=True)
        as_agent = box.kill(mark, user=AGENT)
        assert () == as_agent.left
        assert box.marks.confirms(as_agent, ended=True)
        assert [] == box.processes("sleep 1001")


# -- Doubts -----------------------------------------------------------------------------------------------------------

_ESCAPE = "ulimit -m 1000; exec env -i /bin/sh -c '/bin/setsid /bin/sleep 1001 &'"
_ESCAPED = r"^\S+ +\S+ +/bin/sleep 1001$"  # what setsid becomes once it has a session of its own


def test_what_wiped_off_its_mark_is_a_doubt(box: Box) -> None:
    """It is not killed, and nobody is told that it was."""
    mark, command = box.spawn_marked("sh", "-c", _ESCAPE)
    until(lambda: box.has_ended(command))
    box.wait_for(_ESCAPED)
    verdict = box.kill(mark)

    assert verdict.complete
    assert [(1000 * 1024, True)] == [(doubt.limit, doubt.detached) for doubt in verdict.doubts]
    assert not box.marks.confirms(verdict, ended=True)
    box.clear()
    assert box.marks.confirms(box.kill(mark), ended=True)


def test_a_process_that_is_older_is_no_doubt(box: Box) -> None:
    """What was there before the command cannot be the command's."""
    _, command = box.spawn_marked("sh", "-c", _ESCAPE)
    until(lambda: box.has_ended(command))
    box.wait_for(_ESCAPED)
    time.sleep(0.3)  # more than the clocks' margin
    verdict = box.kill(box.new_mark())

    assert Verdict(complete=True) == verdict


def test_an_orphan_of_a_later_command_is_known_by_its_limit(box: Box) -> None:
    """Two commands at once, and the later one leaves a background process: it is nobody else's."""
    first = box.new_mark()
    later, command = box.spawn_marked("sh", "-c", "setsid sleep 1001 &", user=AGENT)
    until(lambda: box.has_ended(command))
    verdict = box.kill(first)

    assert [Doubt(doubt.pid, later.limit * 1024, detached=True) for doubt in verdict.doubts] == list(verdict.doubts)
    assert box.marks.confirms(verdict, ended=True)
    assert not Marks().confirms(verdict, ended=True)
    assert 1 == len(box.processes("sleep 1001"))
    box.kill(later)


def test_a_later_command_of_another_process_is_no_doubt_while_it_runs(box: Box) -> None:
    """Whoever was started from outside the container is another command, once ours has ended."""
    first = box.new_mark()
    later, _ = box.spawn_marked("sh", "-c", "sleep 1001; true")
    box.wait_for("sleep 1001", 2)
    verdict = box.kill(first)

    assert 2 == len(verdict.doubts)
    assert Marks().confirms(verdict, ended=True)
    assert not Marks().confirms(verdict, ended=False)
    box.kill(later)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("plain", [True, False], ids=["no-shell", "no-limit"])
def test_without_the_limit_the_variable_finds_them(boxes: Boxes, shell: str, plain: bool) -> None:
    """A command that was started without the shell, or where no limit can be set; what hid from it is a doubt."""
    host = {} if plain else {"Ulimits": [{"Name": "rss", "Soft": 4096, "Hard": 4096}]}
    script = ("sh", "-c", "setsid sleep 1001 & (setsid sh -c 'sleep 1001' &); sleep 1001")
    with boxes.box(boxes.image(shell), host) as box:
        time.sleep(0.3)  # more than the clocks' margin, so that the main process is older
        mark = box.new_mark()
        box.spawn(*(script if plain else supervised(script, mark)), env=mark.variable)
        box.wait_for("sleep 1001", 3)
        verdict = box.kill(mark, limited=not plain)

        assert [] == box.processes("sleep 1001")
        assert box.marks.confirms(verdict, ended=True)
        box.spawn("env", "-i", "/bin/setsid", "/bin/sh", "-c", "/bin/sleep 1001 &", env=mark.variable)
        box.wait_for("sleep 1001")
        assert not box.marks.confirms(box.kill(mark, limited=not plain), ended=True)


# -- Marks and verdicts -----------------------------------------------------------------------------------------------


def test_marks_are_unique_and_fall() -> None:
    """Whoever has a higher limit than a command has is not of that command: limits only ever fall."""
    marks = Marks()
    made: list[list[Mark]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(marks.new() for _ in range(500))) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limits = [mark.limit for mine in made for mark in mine]

    assert 2000 == len(set(limits))
    assert all(mine == sorted(mine, key=lambda mark: -mark.limit) for mine in made)
    assert all(2**52 <= limit < 2**53 for limit in limits)


def test_a_mark_tells_no_secret_when_printed() -> None:
    """What is printed ends in logs."""
    mark = Marks().new()

    assert mark.secret not in repr(mark)
    assert {EXEC_VARIABLE: mark.token} == mark.variable
    assert mark.secret not in " ".join(kill_tree(mark, 1))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"done",
        b"found 1\n",
        b"found 1\nleft x\ndone\n",
        b"found\ndone\n",
        b"doubt 1 2\ndone\n",
        b"hello\ndone\n",
        b"\xff\xfe\ndone\n",
        b"found 1\ndone\nmore\n",
    ],
)
def test_what_is_not_understood_confirms_nothing(said: bytes) -> None:
    """A container may answer anything."""
    assert not Marks().confirms(Verdict.read(said), ended=True)


def test_a_verdict_is_read() -> None:
    """The killer's words, as values."""
    said = b"found 2\nhit 4096\nleft 17\ndoubt 18 1024 orphan\ndoubt 19 0 exec\ndone\n"
    doubts = (Doubt(18, 1024, detached=True), Doubt(19, 0, detached=False))

    assert Verdict(complete=True, found=2, hits=(4096,), left=(17,), doubts=doubts) == Verdict.read(said)
