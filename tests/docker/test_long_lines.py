"""Lines that the engine's logging driver keeps in pieces."""

from oubliette_docker._logs import _LongLines

_PIECE = 16 * 1024


def read(*frames: tuple[int, bytes]) -> bytes:
    """Mend frames that each come whole."""
    lines = _LongLines()
    return b"".join(lines.mended(channel, memoryview(data), frame_ends=True) for channel, data in frames)


def test_a_dropped_newline_is_put_back() -> None:
    """The last piece of a long line has lost its end."""
    long = b"x" * _PIECE

    assert long + long + b"end\nnext\n" == read((1, long), (1, long), (1, b"end"), (1, b"next\n"))


def test_what_has_its_newline_is_left_alone() -> None:
    """Newer engines keep it, and short lines always have theirs."""
    long = b"x" * _PIECE

    assert b"a\n" + long + b"end\n" == read((1, b"a\n"), (1, long), (1, b"end\n"))


def test_an_unfinished_short_line_is_left_alone() -> None:
    """A prompt without an end is no long line."""
    assert b"$ " == read((1, b"$ "))


def test_the_other_stream_is_not_mistaken_for_the_rest() -> None:
    """Both streams come in one sequence of frames."""
    long = b"x" * _PIECE

    assert long + b"warning" + b"end\n" == read((1, long), (2, b"warning"), (1, b"end"))


def test_a_frame_may_come_in_parts() -> None:
    """Where the connection cuts it says nothing about the line."""
    lines = _LongLines()
    parts = [(b"x" * 10_000, False), (b"x" * (_PIECE - 10_000), True), (b"e", False), (b"nd", True)]
    mended = b"".join(lines.mended(1, memoryview(part), frame_ends=ends) for part, ends in parts)

    assert b"x" * _PIECE + b"end\n" == mended
