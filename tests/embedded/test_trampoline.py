"""The program that executes commands: here it runs, for the other machine it is what an assembler makes of it."""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_embedded.supervisor import trampoline as subject


@pytest.fixture
def program() -> Iterator[int]:
    """The program for this machine."""
    descriptor = subject.trampoline(os.uname().machine)
    yield descriptor
    os.close(descriptor)


def run(program: int, *words: bytes, extra: int | None = None) -> tuple[int, bytes, bytes]:
    """Run it; give its exit code, what was printed, and what came on the status descriptor after the first byte."""
    reading, writing = os.pipe()
    shell = ("/bin/sh", "-c", f'exec "$@" {subject.STATUS}>/proc/self/fd/{writing}', "sh", f"/proc/self/fd/{program}")
    kept = [program, writing, *([] if extra is None else [extra])]
    with subprocess.Popen([*shell, *words], stdout=subprocess.PIPE, pass_fds=kept, env={"WORD": "given"}) as process:
        os.close(writing)
        printed, _ = process.communicate(timeout=20)
    with os.fdopen(reading, "rb") as report:
        told = report.read()
    assert told.startswith(subject.READY)
    return process.returncode, printed, told.removeprefix(subject.READY)


def test_it_waits_where_there_is_a_gate(program: int) -> None:
    """It says that it is there, and goes on when a byte has come."""
    reading, writing = os.pipe()
    opens, gate = os.pipe()
    redirect = f"{subject.STATUS}>/proc/self/fd/{writing} {subject.GATE}</proc/self/fd/{opens}"
    shell = ("/bin/sh", "-c", f'exec "$@" {redirect}', "sh", f"/proc/self/fd/{program}")
    words = subject.call([b"/bin/echo", b"late"], {})
    with subprocess.Popen([*shell, *words], stdout=subprocess.PIPE, pass_fds=[program, writing, opens]) as process:
        os.close(writing)
        ready = os.read(reading, 9)
        waits = not select.select([reading], [], [], 0.1)[0]
        os.write(gate, b"g")
        printed, _ = process.communicate(timeout=20)
        rest = os.read(reading, 9)
    for descriptor in (reading, opens, gate):
        os.close(descriptor)

    assert (subject.READY, True, b"late\n", b"") == (ready, waits, printed, rest)


def test_a_command_gets_its_arguments_and_variables(program: int) -> None:
    """And nothing is said on the status descriptor, which ends as soon as it runs."""
    words = subject.call([b"sh", b"-c", b'echo "$WORD $0 $*"', b"zero", b"", b"two words"], {b"PATH": b"/nowhere:/bin"})

    assert (0, b"given zero  two words\n", b"") == run(program, *words)


def test_a_command_that_is_not_there(program: int) -> None:
    """The last error that was not "not found" counts, if there is one."""
    absent = subject.call([b"no-such-command"], {b"PATH": b"/bin:/no/such/place"})
    not_executable = subject.call([b"passwd"], {b"PATH": b"/no/such/place:/etc:/bin/sh"})
    directory = subject.call([b"/etc"], {})

    assert (127, b"", bytes([errno.ENOENT])) == run(program, *absent)
    assert (127, b"", bytes([errno.EACCES])) == run(program, *not_executable)
    assert (127, b"", bytes([errno.EACCES])) == run(program, *directory)


def test_a_command_inherits_no_other_descriptor(program: int) -> None:
    """Whatever was open for other programs is closed when it runs."""
    with Path("/etc/passwd").open("rb") as extra:
        code, printed, _ = run(
            program, *subject.call([b"/bin/sh", b"-c", b"ls /proc/$$/fd; :"], {}), extra=extra.fileno()
        )

    assert (0, [b"0", b"1", b"2"]) == (code, printed.split())


def test_it_cannot_be_changed(program: int) -> None:
    """Neither written, nor made longer or shorter."""
    with pytest.raises(PermissionError):
        os.pwrite(program, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(program, 10_000)


def test_paths_are_looked_for_as_shells_do() -> None:
    """In each directory of PATH, an empty one being the current; not where the name has a slash."""
    assert [b"/bin/a", b"./a", b"rel/a", b"", b"a", b"b"] == subject.call([b"a", b"b"], {b"PATH": b"/bin::rel"})
    assert [b"dir/a", b"", b"dir/a"] == subject.call([b"dir/a"], {b"PATH": b"/bin"})
    assert subject.DEFAULT_PATH.count(b":") + 3 == len(subject.call([b"a"], {}))


@pytest.mark.parametrize(
    ("machine", "listing", "assembler"),
    [
        ("x86_64", subject._X86_64, "x86_64-linux-gnu-as"),
        ("aarch64", subject._AARCH64, "aarch64-linux-gnu-as"),
    ],
)
def test_the_listing_is_the_program(machine: str, listing: str, assembler: str, tmp_path: Path) -> None:
    """The text beside the bytes says what they are, by the word of an assembler where there is one."""
    if shutil.which(assembler) is None:
        pytest.skip(f"there is no {assembler} (binutils) here")
    rows = [re.fullmatch(r"([0-9a-f]+) +([0-9a-f]+): (.*)", row) for row in listing.strip().split("\n")]
    lines = [match for match in rows if match is not None]
    targets = {match[2].lstrip("0") or "0" for match in lines}
    jumps = r"^(j\w+|b\.\w+|b|cbn?z +\w+,) +([0-9a-f]+)$"
    source = [f"at_{match[2].lstrip('0') or '0'}: {re.sub(jumps, _label, match[3])}" for match in lines]
    (tmp_path / "listing.s").write_text("\n".join(source) + "\n", encoding="ascii")
    made = tmp_path / "made.o"
    subprocess.run([assembler, tmp_path / "listing.s", "-o", made], check=True)
    expected = bytes.fromhex("".join(match[1] for match in lines))

    assert len(rows) == len(lines) == len(targets)
    assert expected in made.read_bytes(), machine


def _label(match: re.Match[str]) -> str:
    return f"{match[1]} at_{match[2]}"
