"""A configuration file is read within limits, as JSON or JSON5, and parsed once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oubliette_core.config import document
from oubliette_core.config.document import Document, Problem, parse_text, read_document
from oubliette_core.errors import ConfigError

COMMENTED = b'// a comment\n{"runtime": "docker"}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "oubliette.jsonc"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Name a cache file that is not there yet."""
    return tmp_path / "config.json"


def _write(file: Path, data: bytes, mode: int = 0o600) -> Path:
    file.write_bytes(data)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("{}", {}),
        ('{"a": [1, 2.5, true, null, "x"]}', {"a": [1, 2.5, True, None, "x"]}),
        ("// c\n{a: 'x', /* c */ \"b\": [1, 2,], c: 0x10,}", {"a": "x", "b": [1, 2], "c": 16}),
        ('{"a": "// no comment"}', {"a": "// no comment"}),
    ],
)
def test_json_and_json5_are_read(text: str, tree: object) -> None:
    """People comment their configuration, and leave commas at the end."""
    assert ((), tree) == (parse_text(text).problems, parse_text(text).tree)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "expected an object"),
        ("// only a comment", 1, "unexpected end of input"),
        ("[1]", None, "expected an object"),
        ('"text"', None, "expected an object"),
        ('{\n"a": }', 2, 'unexpected "}" at column 6'),
        ('{a: "x\ny"}', 1, "unexpected end of line"),
        ("{a: 1} {", 1, 'unexpected "{"'),
        ("{a: \x9b}", 1, 'unexpected "\\x9b"'),
        ("{a: 1 /* x", 1, "unexpected end of input"),
        ('{"a": ' + "9" * 5000 + "}", None, "not JSON5"),
        ("{a: " + "[" * 40, None, "nested deeper than 32 levels"),
        ("[" * 100_000, None, "nested deeper than 32 levels"),
        ('{"a":' * 100_000, None, "nested deeper than 32 levels"),
    ],
)
def test_what_cannot_be_read_is_one_problem(text: str, line: int | None, words: str) -> None:
    """The message says what was not expected, and where."""
    (problem,) = parse_text(text).problems

    assert line == problem.line
    assert words in problem.text


@pytest.mark.parametrize("comment", ["", "// JSON5\n"])
def test_every_repeated_key_is_a_problem(comment: str) -> None:
    """The parser would keep the last one, and somebody would look for hours at the first."""
    text = f'{comment}{{"a": {{"b": 1, "b": 2}},\n"a": 3}}'
    first = 1 + comment.count("\n")

    assert (
        Problem(path=("a", "b"), text="is there twice", line=first),
        Problem(path=("a",), text="is there twice", line=first + 1),
    ) == parse_text(text).problems


def test_a_repeated_key_is_found_however_it_is_written() -> None:
    """An escape that only JSON5 knows hides the key from the search for lines, not from the parser."""
    (problem,) = parse_text(r"{a: 1, '\x61': 2}").problems

    assert "the key 'a' is there twice in one object" == problem.text


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    """Some editors write one."""
    assert {"runtime": "docker"} == read_document(_write(file, b"\xef\xbb\xbf" + COMMENTED), None).tree


def test_other_encodings_are_a_problem(file: Path) -> None:
    """A text that is not UTF-8 would be misread."""
    (problem,) = read_document(_write(file, b'{\n"a": "\xff"}'), None).problems

    assert Problem(text="not UTF-8 text", line=2) == problem


def test_a_large_file_is_refused_unread(file: Path) -> None:
    """The parser would be at it for minutes."""
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        read_document(_write(file, b" " * (document.LARGEST_FILE + 1)), None)


def test_a_file_that_anybody_can_write_is_refused(file: Path) -> None:
    """Whoever writes the configuration decides what runs."""
    with pytest.raises(ConfigError, match="anybody can write") as caught:
        read_document(_write(file, COMMENTED, 0o606), None)

    assert f"Close it: chmod 600 {file}" == caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    """Whoever owns the configuration decides what runs."""
    os.chown(_write(file, COMMENTED), 4242, -1)

    with pytest.raises(ConfigError, match=r"belongs to somebody else \(uid 4242\)"):
        read_document(file, None)


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_only_regular_files_are_read(file: Path, kind: str) -> None:
    """A FIFO would block for ever."""
    if kind == "fifo":
        os.mkfifo(file, 0o600)
    else:
        file.mkdir()

    with pytest.raises(ConfigError, match="is not a regular file"):
        read_document(file, None)


def test_a_parsed_file_is_kept_for_its_owner_alone(file: Path, cache: Path) -> None:
    """The cache holds what the file holds, secrets included."""
    previous = os.umask(0)
    try:
        read_document(_write(file, COMMENTED), cache)
    finally:
        os.umask(previous)

    assert 0o600 == cache.stat().st_mode & 0o777
    assert {"runtime": "docker"} == json.loads(cache.read_text())["tree"]


def test_a_file_that_was_seen_needs_no_json5(file: Path, cache: Path) -> None:
    """Importing and running the parser takes longer than the rest of a command."""
    program = (
        "import sys; from pathlib import Path; from oubliette_core.config.document import read_document;"
        f"print(read_document(Path({str(file)!r}), Path({str(cache)!r})).tree, 'json5' in sys.modules)"
    )
    _write(file, COMMENTED)
    seen = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
        for _ in range(2)
    ]

    assert ["{'runtime': 'docker'} True", "{'runtime': 'docker'} False"] == seen


def test_plain_json_needs_no_json5() -> None:
    """The standard library reads it at once."""
    program = (
        "import sys; from oubliette_core.config.document import parse_text;"
        "print(parse_text('{\"a\": 1}').tree, 'json5' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert "{'a': 1} False" == shown.strip()


def test_a_changed_file_is_parsed_again(file: Path, cache: Path) -> None:
    """The cache is good for exactly the text that it was made from."""
    read_document(_write(file, COMMENTED), cache)

    assert {"runtime": "apple"} == read_document(_write(file, COMMENTED.replace(b"docker", b"apple")), cache).tree


def test_the_lines_are_known_from_the_cache_as_well(file: Path, cache: Path) -> None:
    """A problem that the parser does not see is reported at each start, with its line."""
    read_document(_write(file, COMMENTED), cache)

    assert 2 == read_document(file, cache).positions().line_of(("runtime",))


@pytest.mark.parametrize("damage", ["mode", "link", "rubbish", "list", "format", "tree", "deep"])
def test_an_odd_cache_is_not_used(file: Path, cache: Path, tmp_path: Path, damage: str) -> None:
    """Whatever has happened to the cache, the file is what holds."""
    read_document(_write(file, COMMENTED), cache)
    entry = json.loads(cache.read_text()) | {"tree": {"runtime": "evil"}}
    contents = {
        "rubbish": "{",
        "list": "[]",
        "format": json.dumps(entry | {"format": 0}),
        "tree": json.dumps(entry | {"tree": []}),
        "deep": "[" * 100_000,
    }
    _write(cache, contents.get(damage, json.dumps(entry)).encode(), 0o644 if damage == "mode" else 0o600)
    if damage == "link":
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")

    assert {"runtime": "docker"} == read_document(file, cache).tree


def test_a_sound_cache_is_used(file: Path, cache: Path) -> None:
    """The counterpart of the test above: with the same change and no damage it is believed."""
    read_document(_write(file, COMMENTED), cache)
    _write(cache, json.dumps(json.loads(cache.read_text()) | {"tree": {"runtime": "kept"}}).encode())

    assert {"runtime": "kept"} == read_document(file, cache).tree


def test_a_text_with_problems_is_not_kept(file: Path, cache: Path) -> None:
    """The next command reports them again."""
    read_document(_write(file, b"{a: 1, a: 2}"), cache)

    assert not cache.exists()


def test_without_a_place_for_the_cache_the_file_is_read_all_the_same(file: Path, tmp_path: Path) -> None:
    """A read-only home, or one that is not made yet, is no reason to fail."""
    assert {"runtime": "docker"} == read_document(_write(file, COMMENTED), tmp_path / "no" / "cache.json").tree


def test_a_document_does_not_show_what_it_holds() -> None:
    """It may hold secrets."""
    assert "canary" not in repr(Document(tree={"a": "canary"}, text="canary"))
