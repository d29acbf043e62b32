"""Data and what is said about it go separate ways, and neither fails for what it contains."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping

import pytest

from oubliette_core.cli.output import Output, OutputClosedError
from oubliette_core.errors import InvalidValueError


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _output(environ: Mapping[str, str] | None = None, *, answer: str | None = None, terminal: bool = False) -> Output:
    return Output(
        environ or {},
        stdin=io.StringIO() if answer is None else _Terminal(answer),
        stdout=io.StringIO(),
        stderr=_Terminal() if terminal else io.StringIO(),
    )


def _written(output: Output) -> tuple[str, str]:
    assert isinstance(output.stdout, io.StringIO)
    assert isinstance(output.stderr, io.StringIO)
    return output.stdout.getvalue(), output.stderr.getvalue()


def test_data_goes_to_standard_output_and_remarks_to_standard_error() -> None:
    """So that a pipe gets nothing but the data."""
    output = _output()
    output.line("data")
    output.note("remark")
    output.warning("careful", "Look.")

    assert ("data\n", "remark\nwarning: careful\n  hint: Look.\n") == _written(output)


def test_fields_are_aligned() -> None:
    """One name and value a line."""
    output = _output()
    output.fields([("name", "web"), ("workspace", None)])

    assert "name:       web\nworkspace:  -\n" == _written(output)[0]


def test_json_is_not_escaped_twice() -> None:
    """Programs get the text as it is."""
    output = _output()
    output.json({"name": "ü\x1b"})

    assert '{\n  "name": "ü\\u001b"\n}\n' == _written(output)[0]


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, "\x1b[1;31merror:\x1b[0m bad\n"),
        ({"NO_COLOR": "1"}, "error: bad\n"),
        ({"TERM": "dumb"}, "error: bad\n"),
    ],
)
def test_colour_is_for_terminals_that_want_it(environ: Mapping[str, str], shown: str) -> None:
    """NO_COLOR and dumb terminals are heeded."""
    output = _output(environ, terminal=True)
    output.error("bad")

    assert shown == _written(output)[1]


@pytest.mark.parametrize(
    ("answer", "meant"), [("y\n", True), ("YES\n", True), ("\n", False), ("yup\n", False), ("", False)]
)
def test_only_yes_means_yes(answer: str, meant: bool) -> None:
    """What destroys something does so only when it was clearly asked for."""
    assert meant == _output(answer=answer).confirm("Sure?", otherwise="--yes")


def test_where_nobody_can_be_asked_the_option_is_named() -> None:
    """A script must not hang, and must not destroy anything by default."""
    with pytest.raises(InvalidValueError, match="nobody can be asked") as caught:
        _output().confirm("Sure?", otherwise="--yes")

    assert "Say yes with --yes." == caught.value.hint


def test_what_an_encoding_cannot_express_is_escaped() -> None:
    """A name in another script is no reason to fail, in whatever locale."""
    bytes_written = io.BytesIO()
    stdout = io.TextIOWrapper(bytes_written, encoding="ascii")
    Output({}, stdin=io.StringIO(), stdout=stdout, stderr=io.StringIO()).line("naïve")

    assert b"na\\xefve\n" == bytes_written.getvalue()


def test_a_reader_that_has_gone_is_told_apart_from_a_broken_connection() -> None:
    """``oubliette ... | head`` ends quietly; a BrokenPipeError from elsewhere is a bug."""
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.fdopen(writer, "w")
    output = Output({}, stdin=io.StringIO(), stdout=stdout, stderr=io.StringIO())
    with pytest.raises(OutputClosedError):
        output.line("anyone?")
    with pytest.raises(OutputClosedError):
        output.raw(b"anyone?")
    with pytest.raises(BrokenPipeError):
        stdout.close()
