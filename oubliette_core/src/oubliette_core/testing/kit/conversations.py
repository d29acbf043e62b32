"""Talking to a command while it runs."""

from __future__ import annotations

import time
from pathlib import Path

from oubliette_core.errors import CommandNotFoundError
from oubliette_core.models import ExecSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import SLACK, bounded, start
from oubliette_core.testing.kit.stage import Maker, unique
from oubliette_core.testing.kit.talk import Talk

_ROUNDS = 10


class ConversationCases(Cases):
    """open_exec."""

    def test_process_conversation(self, box: Box) -> None:
        with box.talk("/bin/cat") as talk:
            heard = 0
            for number in range(200):
                line = f"question {number}\n".encode()
                talk.send(line)
                heard += len(line)

                assert talk.stdout.wait_for(heard).endswith(line)
            talk.finish()

            assert 0 == talk.wait()

    def test_process_many_lines(self, box: Box) -> None:
        lines = [f"{number} {'x' * (number % 60)}\n".encode() for number in range(100_000)]
        whole = b"".join(lines)
        with box.talk("/bin/cat") as talk:
            sending = start(lambda: _send(talk, lines))
            heard = talk.stdout.wait_for(len(whole))
            sending.result(30)
            talk.finish()

            assert heard == whole
            assert (0, b"") == (talk.wait(), talk.stderr.wait_for_end())

    def test_process_streams_apart(self, box: Box) -> None:
        with box.talk("/bin/sh", "-c", "while read -r line; do echo out $line; echo err $line >&2; done") as talk:
            talk.send(b"1\n2\n")
            talk.finish()

            assert 0 == talk.wait()
            assert (b"out 1\nout 2\n", b"err 1\nerr 2\n") == (talk.stdout.wait_for_end(), talk.stderr.wait_for_end())

    def test_process_half_close(self, box: Box) -> None:
        with box.talk("/bin/sort") as talk:
            talk.send(b"b\nc\na\n")
            talk.finish()

            assert b"a\nb\nc\n" == talk.stdout.wait_for_end(within=10)
            assert 0 == talk.wait()

    def test_process_binary(self, box: Box) -> None:
        data = bytes(range(256)) * 1000
        with box.talk("/bin/cat") as talk:
            talk.send(data)

            assert data == talk.stdout.wait_for(len(data))

    def test_process_speaks_at_once(self, box: Box) -> None:
        with box.talk("/bin/sh", "-c", "printf ready; sleep 1000") as talk:
            assert b"ready" == talk.stdout.wait_for(5, within=5 + SLACK)

    def test_process_exit_code(self, box: Box) -> None:
        with box.talk("/bin/sh", "-c", "echo last words; exit 42") as talk:
            assert (42, 42) == (talk.wait(), talk.wait())
            assert b"last words\n" == talk.stdout.wait_for_end()

    def test_process_wait_timeout(self, box: Box) -> None:
        with box.talk("/bin/sleep", "1000") as talk:
            started = time.monotonic()
            code = bounded(lambda: talk.process.wait(0.3), 10, "Process.wait")
            took = time.monotonic() - started

            assert code is None
            assert 0.25 <= took < 0.3 + 2 * SLACK

    def test_process_end_of_output(self, box: Box) -> None:
        process = box.runtime.open_exec(box.id, ExecSpec(command=("/bin/echo", "once")))
        with process:
            heard = [bounded(lambda: process.stdout.read(100), 20, "reading") for _ in range(4)]

        assert b"once\n" == b"".join(one or b"" for one in heard)
        assert [b"", b""] == heard[-2:]

    def test_process_given(self, box: Box) -> None:
        spec = {"env": {"WORD": "given"}, "workdir": "/home"}
        with box.talk("/bin/sh", "-c", 'echo "$WORD $(pwd)"', **spec) as talk:
            assert b"given /home\n" == talk.stdout.wait_for_end()

    def test_process_user(self, box: Box) -> None:
        with box.talk("/bin/id", "-u", user="1000") as talk:
            assert b"1000\n" == talk.stdout.wait_for_end()

    def test_process_not_found(self, box: Box) -> None:
        try:
            talk = box.talk("/no/such/command")
        except CommandNotFoundError as error:
            code: int | None = error.exit_code
        else:
            with talk:
                code = talk.wait()

        assert code == 127

    def test_process_kill(self, box: Box) -> None:
        mark = unique()
        with box.talk("/bin/sh", "-c", 'setsid sleep "$1" & env -i sleep "$1" & sleep "$1"', "sh", mark) as talk:
            assert box.wait_for_process(mark)
            killed = talk.kill()

            assert (True, 0) == (killed, box.processes(mark))
            assert talk.wait(10) not in (0, None)
            assert talk.kill()

    def test_process_kill_ended(self, box: Box) -> None:
        with box.talk("/bin/true") as talk:
            assert 0 == talk.wait()
            assert talk.kill()
            assert 0 == talk.wait()

    def test_process_close_kills(self, box: Box) -> None:
        mark = unique()
        talk = box.talk("/bin/sh", "-c", 'setsid sleep "$1" & sleep "$1"', "sh", mark)

        assert box.wait_for_process(mark)
        talk.close()

        assert 0 == box.processes(mark)

    def test_process_close_twice(self, box: Box) -> None:
        talk = box.talk("/bin/cat")
        talk.close()
        talk.close()

        assert box.inspect().running

    def test_process_together(self, box: Box) -> None:
        talks = {unique(): box.talk("/bin/cat") for _ in range(5)}
        for _ in range(20):
            for word, talk in talks.items():
                talk.send(f"{word}\n".encode())
        heard = {word: talk.stdout.wait_for(20 * (len(word) + 1)) for word, talk in talks.items()}
        for talk in talks.values():
            talk.close()

        assert {word: f"{word}\n".encode() * 20 for word in talks} == heard

    def test_process_descriptors(self, box: Box) -> None:
        def converse() -> None:
            with box.talk("/bin/cat") as talk:
                talk.send(b"x")
                talk.stdout.wait_for(1)

        converse()
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(_ROUNDS):
            converse()

        assert len(list(Path("/dev/fd").iterdir())) - before < _ROUNDS // 2

    def test_process_container_stops(self, runtime: Runtime, make: Maker) -> None:
        box = make.running()
        with box.talk("/bin/cat") as talk:
            talk.send(b"x")
            talk.stdout.wait_for(1)
            runtime.stop(box.id, grace=0)
            ended = start(lambda: talk.process.wait(15), "Process.wait").outcome(20)

        assert ended not in (0, None)


def _send(talk: Talk, lines: list[bytes]) -> None:
    for at in range(0, len(lines), 100):
        talk.send(b"".join(lines[at : at + 100]))


class TerminalCases(Cases):
    """exec and open_exec with a terminal."""

    def test_tty_exec(self, box: Box) -> None:
        result = box.shell("test -t 0 && test -t 1 && test -t 2 && echo a terminal; echo err >&2; exit 3", tty=True)

        assert (3, b"") == (result.exit_code, result.stderr)
        assert [b"a terminal", b"err"] == result.stdout.split(b"\r\n")[:2]

    def test_tty_none(self, box: Box) -> None:
        assert "none" == box.says("test -t 0 || test -t 1 || test -t 2 || echo none")

    def test_tty_conversation(self, box: Box) -> None:
        with box.talk("/bin/sh", "-c", 'read -r line; echo "heard $line"', tty=True) as talk:
            talk.send(b"hello\n")

            assert b"heard hello" in talk.stdout.wait_for_end()
            assert 0 == talk.wait()

    def test_tty_resize(self, box: Box) -> None:
        with box.talk("/bin/sh", "-c", "read -r line; stty size", tty=True) as talk:
            bounded(lambda: talk.process.resize(41, 123), 10, "Process.resize")
            talk.send(b"\n")

            assert b"41 123" in talk.stdout.wait_for_end()

    def test_tty_interrupt(self, box: Box) -> None:
        # A shell that is interrupted just before it starts a program sees to that when the program has ended.
        script = "trap 'echo stopped; exit 9' INT; echo ready; while :; do sleep 0.2; done"
        with box.talk("/bin/sh", "-c", script, tty=True) as talk:
            talk.stdout.wait_for(len("ready"))
            talk.send(b"\x03")

            assert 9 == talk.wait()

    def test_tty_deadline(self, box: Box) -> None:
        mark = unique()
        result = box.shell('echo so far; setsid sleep "$1" & sleep "$1"', mark, tty=True, timeout=1)

        assert (True, True, 0) == (result.timed_out, result.killed, box.processes(mark))
        assert b"so far" in result.stdout
