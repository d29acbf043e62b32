"""Streams come apart as they were put together, wherever they are cut, and neither direction blocks the other."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette_docker._http import HijackedStream
from oubliette_docker._streams import STDERR, STDOUT, Demultiplexer, Dialogue, Kept, Wake
from oubliette_docker._transports import Link


def frame(channel: int, data: bytes) -> bytes:
    """Put a frame together as an engine does."""
    return struct.pack(">BxxxL", channel, len(data)) + data


PARTS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300)))


@given(parts=PARTS, sizes=st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_apart_wherever_they_are_cut(parts: list[tuple[int, bytes]], sizes: list[int]) -> None:
    """A read may end in a header, in the middle of data, or behind many frames."""
    stream = b"".join(frame(*part) for part in parts)
    demultiplexer = Demultiplexer(framed=True)
    streams = {STDOUT: b"", STDERR: b""}
    while stream:
        size = sizes[len(stream) % len(sizes)]
        for channel, part in demultiplexer.feed(stream[:size]):
            streams[channel] += part
        stream = stream[size:]

    assert b"" == demultiplexer.strange
    for wanted, found in streams.items():
        assert b"".join(data for channel, data in parts if channel == wanted) == found


@given(data=st.binary(min_size=1))
def test_a_terminals_output_is_taken_as_it_is(data: bytes) -> None:
    """It has no frames."""
    assert [(STDOUT, data)] == [(channel, bytes(part)) for channel, part in Demultiplexer(framed=False).feed(data)]


def test_what_is_no_frame_is_kept_apart() -> None:
    """An engine that fails while it answers writes plain text."""
    demultiplexer = Demultiplexer(framed=True)
    said = b"cannot exec: something broke"
    good = [bytes(part) for _, part in demultiplexer.feed(frame(STDOUT, b"good") + said[:3])]
    rest = [bytes(part) for _, part in demultiplexer.feed(said[3:])]

    assert ([b"good"], []) == (good, rest)
    assert said == demultiplexer.strange
    assert 4096 >= len([*demultiplexer.feed(b"x" * 10_000)]) + len(demultiplexer.strange)


@given(parts=st.lists(st.binary(max_size=1500)), limit=st.integers(0, 3000))
def test_output_is_kept_to_its_limit_and_its_ends_are_known(parts: list[bytes], limit: int) -> None:
    """Also when they were dropped."""
    kept = Kept(limit)
    for part in parts:
        kept.add(memoryview(part))
    whole = b"".join(parts)

    assert whole[:limit] == kept.whole()
    assert (len(whole) > limit) == kept.truncated
    assert kept.ends().startswith(whole[:1024])
    assert kept.ends().endswith(whole[-1024:])


@pytest.fixture
def pair() -> Iterator[tuple[HijackedStream, socket.socket]]:
    """A stream as `Connection.hijack` gives it, with the engine's end of it."""
    ours, theirs = socket.socketpair()
    with contextlib.closing(HijackedStream(Link(ours), frame(STDOUT, b"early "), {})) as stream, theirs:
        yield stream, theirs


def test_both_directions_move_at_once(pair: tuple[HijackedStream, socket.socket]) -> None:
    """An engine that echoes, with far more than any buffer holds; what came with the header comes first."""
    stream, theirs = pair
    stdin = bytes(range(256)) * 20_000
    heard = bytearray()

    def echo() -> None:
        while data := theirs.recv(100_000):
            theirs.sendall(frame(STDOUT, data))
        theirs.shutdown(socket.SHUT_WR)

    engine = threading.Thread(target=echo)
    engine.start()
    dialogue = Dialogue(stream, framed=True, take=lambda _, part: heard.extend(part), stdin=stdin)
    while dialogue.step(10):
        pass
    engine.join()

    assert b"early " + stdin == heard
    assert dialogue.moved > len(heard)


@pytest.mark.parametrize("end", ["never reads", "hangs up", "reads no more"])
def test_an_engine_that_does_not_read_stops_nothing(pair: tuple[HijackedStream, socket.socket], end: str) -> None:
    """Its output is read all the same."""
    stream, theirs = pair
    heard = bytearray()
    dialogue = Dialogue(stream, framed=True, take=lambda _, part: heard.extend(part), stdin=b"x" * 10_000_000)
    if end == "reads no more":
        theirs.shutdown(socket.SHUT_RD)
    theirs.sendall(frame(STDERR, b"output"))
    if end == "never reads":
        theirs.shutdown(socket.SHUT_WR)
    else:
        theirs.close()
    while dialogue.step(10):
        pass

    assert b"early output" == heard


def test_a_wait_ends_when_woken(pair: tuple[HijackedStream, socket.socket]) -> None:
    """Once; afterwards output can still be waited for."""
    stream, theirs = pair
    wake = Wake()
    heard = bytearray()
    with contextlib.closing(wake):
        dialogue = Dialogue(stream, framed=True, take=lambda _, part: heard.extend(part), wake=wake)
        timer = threading.Timer(0.1, wake.set)
        timer.start()
        began = time.monotonic()
        assert dialogue.step(30)
        assert time.monotonic() - began < 10
        timer.join()
        theirs.sendall(frame(STDOUT, b"late"))
        assert dialogue.step(30)
    wake.set()

    assert b"early late" == heard


def test_a_wait_ends_in_time(pair: tuple[HijackedStream, socket.socket]) -> None:
    """Nothing moved, and the stream is still there."""
    dialogue = Dialogue(pair[0], framed=True, take=lambda _, __: None)
    began = time.monotonic()

    assert dialogue.step(0.1)
    assert 0.05 < time.monotonic() - began < 5
