"""Requests and streams end: with their answer, with an error of ours, at their deadline, or when cancelled."""

from __future__ import annotations

import http.client
import multiprocessing
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from oubliette_core.errors import (
    InvalidValueError,
    OperationCancelledError,
    OperationTimeoutError,
    OublietteError,
    RuntimeLostError,
    RuntimeUnavailableError,
)
from oubliette_core.models import Cancel
from oubliette_docker._connection import Connection
from oubliette_docker._endpoint import Endpoint
from oubliette_docker._errors import EngineError
from tests.docker.scripted import CHUNKED, PING, Script, ScriptedEngine, chunk, reply

NOTHING = {"filters": '{"label": ["oubliette-test-nothing"]}'}
"""A query for events that never come."""


class Play(Protocol):
    """Starts a scripted engine."""

    def __call__(self, script: Script, ping: bytes = PING) -> tuple[ScriptedEngine, Connection]: ...


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Starts an engine with a script, and connects to it."""
    started: list[tuple[ScriptedEngine, Connection]] = []

    def start(script: Script, ping: bytes = PING) -> tuple[ScriptedEngine, Connection]:
        engine = ScriptedEngine(tmp_path / f"{len(started)}.sock", script, ping)
        started.append((engine, Connection(engine.endpoint)))
        return started[-1]

    yield start
    for engine, connection in started:
        connection.close()
        engine.__exit__(None, None, None)


def silent(connection: socket.socket, _head: bytes) -> bool:
    """Take the request and say nothing until the client goes."""
    connection.recv(1)
    return False


def sends(*pieces: bytes, stay: bool = False) -> Script:
    """Answer every request with these bytes."""

    def script(connection: socket.socket, _head: bytes) -> bool:
        for piece in pieces:
            connection.sendall(piece)
        return stay

    return script


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- On a real engine -------------------------------------------------------------------------------------------------


def test_nothing_is_connected_to_before_the_first_call(tmp_path: Path) -> None:
    """A connection is made of a plugin that may never be used."""
    Connection(Endpoint(url=f"unix://{tmp_path}/none.sock")).close()

    with pytest.raises(RuntimeUnavailableError):
        Connection(Endpoint(url=f"unix://{tmp_path}/none.sock")).request("GET", "/info")


def test_the_version_of_the_api_is_what_both_sides_know(connection: Connection) -> None:
    """It is asked for once, and stands in every path."""
    version = connection.api_version()
    info = connection.request("GET", "/version").json()

    assert tuple(map(int, info["ApiVersion"].split("."))) >= version >= (1, 40)


def test_a_refusal_has_status_and_words(connection: Connection) -> None:
    """What the engine says is what the table of errors looks at."""
    with pytest.raises(EngineError, match=r"(?i)no such container") as caught:
        connection.request("GET", "/containers/nope-1234/json")

    assert (404, True) == (caught.value.status, "nope-1234" in caught.value.message)


def test_a_path_that_leads_elsewhere_is_refused(connection: Connection) -> None:
    """An id such as ../volumes/v would delete a volume."""
    with pytest.raises(InvalidValueError):
        connection.request("DELETE", "/containers/../volumes/v")


def test_a_stream_ends_from_another_thread(connection: Connection) -> None:
    """Whoever follows can be let go, at once and without an error."""
    with connection.stream("GET", "/events", query=NOTHING) as events:
        timer = threading.Timer(0.2, events.close)
        timer.start()
        began = time.monotonic()
        last = list(events)
        seconds = time.monotonic() - began
    timer.join()

    assert ([], True) == (last, seconds < 1)


def test_silence_beyond_the_limit_ends_a_stream(connection: Connection) -> None:
    """A stream without news is watched too."""
    with (
        connection.stream("GET", "/events", idle_timeout=0.3) as events,
        pytest.raises(OperationTimeoutError) as caught,
    ):
        list(events)

    assert 0.3 == caught.value.timeout


def test_many_threads_share_a_connection(connection: Connection) -> None:
    """Answers go to whom they belong, and idle sockets stay few."""
    names = [f"nobody-{number}" for number in range(200)]

    def ask(name: str) -> str:
        try:
            connection.request("GET", f"/containers/{name}/json")
        except EngineError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, names))

    assert [] == [name for name, answer in zip(names, answers, strict=True) if not re.search(rf"{name}\b", answer)]
    assert len(connection._idle) <= 8


def test_a_thousand_cycles_leak_no_socket(endpoint: Endpoint) -> None:
    """Every socket is closed or kept for use, also after an error."""
    with Connection(endpoint) as connection:
        connection.request("GET", "/_ping", versioned=False)
        before = _open_files()
        for number in range(1000):
            if number % 10 == 0:
                connection.close()
            with pytest.raises(EngineError):
                connection.request("GET", "/containers/nope/json")

        assert before == _open_files()


def test_closing_twice_and_calling_after_it_work(endpoint: Endpoint) -> None:
    """Close gives idle sockets up; a later call connects again."""
    connection = Connection(endpoint)
    connection.request("GET", "/containers/json")
    connection.close()
    connection.close()
    answered = connection.request("GET", "/containers/json").status
    connection.close()

    assert 200 == answered


def _ask_in_child(connection: Connection) -> None:
    assert connection.request("GET", "/containers/json").status == 200


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_share_sockets(endpoint: Endpoint) -> None:
    """Two processes on one socket would read each other's answers."""
    with Connection(endpoint) as connection:
        connection.request("GET", "/containers/json")
        child = multiprocessing.get_context("fork").Process(target=_ask_in_child, args=(connection,))
        child.start()
        child.join(20)

        assert 0 == child.exitcode
        assert 200 == connection.request("GET", "/containers/json").status


# -- On an engine that does what it is told ---------------------------------------------------------------------------


def test_an_engine_that_is_too_old_is_refused(play: Play) -> None:
    """Better than to find out in the middle of a create."""
    _, connection = play(silent, PING.replace(b"1.41", b"1.24"))

    with pytest.raises(RuntimeUnavailableError, match=r"speaks Docker API 1\.24") as caught:
        connection.request("GET", "/info")

    assert "1.40" in caught.value.hint


def test_what_is_no_engine_is_named_as_such(play: Play) -> None:
    """Any web server answers /_ping somehow."""
    _, connection = play(silent, reply(b"<html>"))

    with pytest.raises(RuntimeUnavailableError, match="no Docker API"):
        connection.request("GET", "/info")


def test_an_engine_that_was_only_starting_is_asked_again(play: Play) -> None:
    """Docker Desktop answers before its engine does."""
    engine, connection = play(sends(reply(b"{}"), stay=True), reply(b"starting"))
    with pytest.raises(RuntimeUnavailableError):
        connection.request("GET", "/info")
    engine.ping = PING

    assert 200 == connection.request("GET", "/info").status


def test_a_newer_engine_is_asked_for_what_we_know(play: Play) -> None:
    """A future version may change what fields mean."""
    engine, connection = play(sends(reply(b"{}"), stay=True), PING.replace(b"1.41", b"9.99"))
    connection.request("GET", "/info")

    assert [b"GET /_ping HTTP/1.1", b"GET /v1.51/info HTTP/1.1"] == [head.split(b"\r\n")[0] for head in engine.heads]


def test_podman_is_told_by_its_own_header(play: Play) -> None:
    """It differs in ways that have to be known before they hurt."""
    podman = PING.replace(b"Content-Length", b"Libpod-Api-Version: 4.3.1\r\nContent-Length")
    _, connection = play(silent, podman)

    assert ((4, 3), True) == (connection.podman_version(), connection.is_podman())


def test_a_socket_is_used_again(play: Play) -> None:
    """Connecting for each call costs more than most calls."""
    engine, connection = play(sends(reply(b"{}"), stay=True))
    for _ in range(5):
        connection.request("GET", "/info")

    assert 1 == engine.connections


def test_a_kept_socket_that_died_is_replaced(play: Play) -> None:
    """After a restart of the engine the next call works, whatever it is."""
    engine, connection = play(sends(reply(b"{}"), stay=True))
    connection.request("GET", "/info")
    engine.hang_up()
    answered = [connection.request(method, "/x").status for method in ("POST", "GET")]

    assert [200, 200] == answered


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("POST", 1), ("DELETE", 1)])
def test_only_what_changes_nothing_is_sent_again(play: Play, method: str, sent: int) -> None:
    """An engine may have done what it did not answer."""
    answers = iter([reply(b"{}")])

    def script(connection: socket.socket, _head: bytes) -> bool:
        connection.sendall(next(answers, b""))
        return True

    engine, connection = play(lambda sock, head: script(sock, head) if b"/first" in head else False)
    connection.request("GET", "/first")
    with pytest.raises(RuntimeLostError):
        connection.request(method, "/second")

    assert sent == sum(b"/second" in head for head in engine.heads)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        CHUNKED + b"5\r\nab",
        CHUNKED + chunk(b"{}"),
        CHUNKED + b"zz\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        reply(b"not json"),
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_an_answer_that_breaks_off_or_is_none_is_a_lost_engine(play: Play, answer: bytes) -> None:
    """Never a success, never an exception of the HTTP library."""
    _, connection = play(sends(answer))

    with pytest.raises(RuntimeLostError):
        connection.request("POST", "/x").json()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message":"no such\\nthing"}', "no such thing"),
        (b'{"cause":"why","response":500}', "why"),
        (b"plain text\n", "plain text"),
        (b"", "HTTP 418 I'm a teapot"),
        (b"[1]", "[1]"),
    ],
)
def test_a_refusal_is_one_line_whatever_its_form(play: Play, body: bytes, expected: str) -> None:
    """Docker, Podman and proxies say it differently."""
    _, connection = play(sends(reply(body, "418 I'm a teapot"), stay=True))

    with pytest.raises(EngineError) as caught:
        connection.request("GET", "/x")

    assert expected == caught.value.message


def test_a_call_ends_at_its_deadline(play: Play) -> None:
    """A frozen engine must not freeze us."""
    _, connection = play(silent)
    connection.api_version()
    began = time.monotonic()
    with pytest.raises(OperationTimeoutError) as caught:
        connection.request("GET", "/x", timeout=0.3)

    assert 0.3 == caught.value.timeout
    assert time.monotonic() - began < 1


def test_a_trickle_does_not_prolong_the_deadline(play: Play) -> None:
    """The deadline of a call is one of the whole, not of each byte."""

    def script(connection: socket.socket, _head: bytes) -> bool:
        connection.sendall(CHUNKED)
        for _ in range(100):
            connection.sendall(chunk(b"x"))
            time.sleep(0.05)  # the trickle is what is tested
        return False

    _, connection = play(script)
    began = time.monotonic()
    with pytest.raises(OperationTimeoutError):
        connection.request("GET", "/x", timeout=0.4)

    assert time.monotonic() - began < 1.5


def test_a_stream_has_a_limit_for_the_whole_too(play: Play) -> None:
    """News every second would keep a pull going for ever."""

    def script(connection: socket.socket, _head: bytes) -> bool:
        connection.sendall(CHUNKED)
        for _ in range(100):
            connection.sendall(chunk(b"Retrying"))
            time.sleep(0.05)  # the trickle is what is tested
        return False

    _, connection = play(script)
    with (
        connection.stream("GET", "/x", idle_timeout=10, total=0.4) as stream,
        pytest.raises(OperationTimeoutError) as caught,
    ):
        list(stream)

    assert 0.4 == caught.value.timeout


@pytest.mark.parametrize("when", ["before", "during"])
def test_cancelling_ends_a_call_at_once(play: Play, when: str) -> None:
    """Ctrl-C is not answered a deadline later."""
    _, connection = play(silent)
    connection.api_version()
    cancel = Cancel()
    timer = threading.Timer(0 if when == "before" else 0.2, cancel.cancel)
    timer.start()
    if when == "before":
        timer.join()
    began = time.monotonic()
    with pytest.raises(OperationCancelledError):
        connection.request("GET", "/x", cancel=cancel)
    timer.join()

    assert time.monotonic() - began < 1


def test_a_finished_call_is_not_hurt_by_a_late_cancel(play: Play) -> None:
    """The socket may be somebody else's by then."""
    _, connection = play(sends(reply(b"{}"), stay=True))
    cancel = Cancel()
    connection.request("GET", "/x", cancel=cancel)
    cancel.cancel()

    assert 200 == connection.request("GET", "/x").status


def test_a_stream_that_is_cut_is_not_at_its_end(play: Play) -> None:
    """A log or an archive that breaks off must not look complete."""
    _, connection = play(sends(CHUNKED + chunk(b"half")))
    got: list[bytes] = []

    with connection.stream("GET", "/x") as stream, pytest.raises(RuntimeLostError):
        got.extend(stream)

    assert [b"half"] == got


@pytest.mark.parametrize("head", [b"Content-Length: 6", b"Content-Length: 6\r\nConnection: close"])
def test_a_stream_of_known_length_ends_with_it(play: Play, head: bytes) -> None:
    """Also when the engine keeps the connection open, and also when it hangs up early."""
    _, connection = play(sends(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nabc", b"def", stay=True))
    _, cut = play(sends(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nabc"))

    with connection.stream("GET", "/x") as stream:
        assert b"abcdef" == b"".join(stream)
    with cut.stream("GET", "/x") as stream, pytest.raises(RuntimeLostError):
        list(stream)


def test_an_error_of_the_caller_passes_through_a_stream(play: Play) -> None:
    """A full disk here is not a lost engine."""
    engine, connection = play(sends(CHUNKED + chunk(b"x"), stay=True))

    with pytest.raises(FileNotFoundError), connection.stream("GET", "/x"):
        raise FileNotFoundError

    engine.hang_up()


def test_a_body_in_pieces_arrives_whole(play: Play) -> None:
    """Archives are sent as they are read; an empty piece is not the end."""
    body = [b"a" * 100_000, b"", b"b" * 200_000]

    def script(connection: socket.socket, head: bytes) -> bool:
        assert b"Transfer-Encoding: chunked" in head
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)
        connection.sendall(reply(str(len(received)).encode()))
        return False

    _, connection = play(script)
    overhead = len(chunk(body[0])) + len(chunk(body[2])) - 300_000 + len(chunk(b""))

    assert 300_000 + overhead == int(connection.request("PUT", "/x", body=iter(body)).body)


def test_a_refused_body_is_answered_by_the_refusal(play: Play) -> None:
    """An engine hangs up while we still send; what it said is the news, not the broken pipe."""
    _, connection = play(sends(reply(b'{"message":"no such directory"}', "404 Not Found")))

    with pytest.raises(EngineError, match="no such directory"):
        connection.request("PUT", "/x", body=(b"x" * 65536 for _ in range(1000)))


def test_a_body_that_cannot_be_read_is_the_callers_error(play: Play) -> None:
    """The engine has nothing to do with a file that vanished."""

    def body() -> Iterator[bytes]:
        yield b"x"
        raise FileNotFoundError("gone")

    _, connection = play(silent)
    with pytest.raises(FileNotFoundError):
        connection.request("PUT", "/x", body=body())


@pytest.mark.parametrize("status", ["101 UPGRADED", "200 OK"])
def test_output_that_comes_with_the_header_is_not_lost(play: Play, status: str) -> None:
    """When we are slow, the first output of an exec arrives together with the answer's header."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n".encode()

    def script(connection: socket.socket, _head: bytes) -> bool:
        while b"}" not in connection.recv(100):
            pass
        connection.sendall(head + b"first")
        connection.sendall(b"second")
        connection.sendall(connection.recv(100))
        assert connection.recv(100) == b""
        connection.sendall(b"after the end of input")
        return False

    _, connection = play(script)
    with connection.hijack("POST", "/exec/x/start", {"Tty": False}) as stream:
        got = stream.buffered
        while not got.endswith(b"second"):
            got += stream.sock.recv(100)
        stream.sock.sendall(b"echo")
        got += stream.sock.recv(4)
        stream.close_write()
        while piece := stream.sock.recv(100):
            got += piece

    assert b"firstsecondechoafter the end of input" == got


def test_a_refused_hijack_is_a_refusal(play: Play) -> None:
    """An exec in a stopped container has an answer like any other."""
    _, connection = play(sends(reply(b'{"message":"is not running"}', "409 Conflict")))

    with pytest.raises(EngineError, match="is not running"):
        connection.hijack("POST", "/exec/x/start")


def test_an_aborted_hijack_wakes_its_reader(play: Play) -> None:
    """Cancelling an exec must not wait for its output."""

    def script(connection: socket.socket, _head: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
        while connection.recv(100):
            pass
        return False

    _, connection = play(script)
    with connection.hijack("POST", "/x") as stream:
        timer = threading.Timer(0.1, stream.abort)
        timer.start()

        assert b"" == stream.sock.recv(1)
        timer.join()


def test_no_exception_of_another_library_comes_out(play: Play) -> None:
    """Whatever the parser meets is told as an error of ours."""
    junk = (b"\xff\xfe\n", b"HTTP/1.1 999\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"\r\n" * 5)
    leaked: list[BaseException] = []
    for answer in junk:
        _, connection = play(sends(answer))
        try:
            connection.request("GET", "/x", timeout=2).json()
        except OublietteError:
            continue
        except (OSError, http.client.HTTPException, ValueError) as error:
            leaked.append(error)

    assert [] == leaked
