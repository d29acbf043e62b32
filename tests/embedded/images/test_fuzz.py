"""Whatever comes in, the parsers and the unpacker answer with a value or with the one error that is meant for it.

The examples are the same in every run. A full run tries many more of them, and other ones each time.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oubliette_core.errors import InvalidReferenceError
from oubliette_core.reference import Reference
from oubliette_core.testing.images import build_image, digest_of, files_layer
from oubliette_embedded.images import Limits
from oubliette_embedded.images._documents import parse_image, parse_manifest
from oubliette_embedded.images._failures import Failure
from oubliette_embedded.images._index import key_of
from oubliette_embedded.images._registry import _parse_challenge, _words
from oubliette_embedded.images._tree import remove_tree
from oubliette_embedded.images._unpack import unpack
from tests.embedded.images.tars import Entry, tar

FULL = "OUBLIETTE_TEST_FULL" in os.environ
fuzz = settings(
    max_examples=5000 if FULL else 150,
    derandomize=not FULL,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


# -- References -------------------------------------------------------------------------------------------------------

_PART = st.text("abcz019._-/:@A", max_size=12)
_PIECES = ["docker.io", "localhost", "a.b:5000", "[::1]:5", "/", ":", "@", "sha256:", "a" * 64, "x", "v1"]
_REFERENCES = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(_PIECES)).map("".join),
    _PART,
    st.binary(max_size=30).map(lambda data: data.decode("latin-1")),
)


@fuzz
@given(_REFERENCES)
def test_a_reference_is_one_or_is_refused(text: str) -> None:
    """What is one is printed as it was read, has one full form, and nothing in it that a shell or a path goes by."""
    try:
        found = Reference.parse(text)
    except InvalidReferenceError:
        return

    assert (text, found) == (str(found), Reference.parse(str(found)))
    assert found.normalised() == Reference.parse(str(found.normalised())).normalised()
    assert key_of(text) == key_of(key_of(text))
    assert not set(text) & set(" \t\n\0\\'\"`$;&|<>(){}*?!#~%^")
    assert ".." not in text.split("/")


# -- Documents --------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(f"sha256:{'a' * 64}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_IMAGE = build_image(files_layer({"/a": "a"}), labels={"a": "b"}, command=["sh"], env={"A": "1"})
_INDEX = json.dumps({"manifests": [{"digest": _IMAGE.digest, "size": 5, "platform": {"os": "linux"}}]}).encode()


def _paths(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from _paths(value, (*at, key))


@st.composite
def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Write a good document in which a few values are others."""
    document = json.loads(data)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(_paths(document))))
        value = draw(_JSON)
        if not path:
            document = value
            break
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    return json.dumps(document).encode()


_DOCUMENTS = st.one_of(
    st.binary(max_size=60),
    _JSON.map(lambda value: json.dumps(value).encode()),
    *(_changed(data) for data in (_IMAGE.manifest, _IMAGE.config, _INDEX)),
)


def _check_words(failure: Failure) -> None:
    """See that what is said can be printed."""
    assert failure.why.isprintable(), failure.why


@fuzz
@given(_DOCUMENTS)
def test_a_document_is_one_or_is_refused(data: bytes) -> None:
    """By a failure that says why on one line; and what is one keeps within what was promised of it."""
    for parse in (parse_manifest, parse_image):
        try:
            found: Any = parse(data)
        except Failure as failure:
            _check_words(failure)
            continue
        digests = [one.digest for one in getattr(found, "layers", ()) or getattr(found, "manifests", ())]
        for digest in (*digests, *getattr(found, "diff_ids", ())):
            assert set(digest.partition(":")[2]) <= set("0123456789abcdef")
        if hasattr(found, "config") and hasattr(found, "diff_ids"):
            config = found.config
            words = [config.user, config.workdir, *(config.command or ()), *(config.entrypoint or ())]
            assert all(b"\0" not in word.encode() for word in (*words, *config.env, *config.env.values()))


@fuzz
@given(st.text(max_size=80) | st.sampled_from(['Bearer realm="a",', 'Basic realm="', 'bearer x="\\"', "Bearer ,,,=,="]))
def test_a_challenge_never_fails(header: str) -> None:
    """It is a header from anywhere."""
    scheme, fields = _parse_challenge(header)

    assert scheme in ("", "basic", "bearer")
    assert all(isinstance(value, str) for value in fields.values())


@fuzz
@given(_DOCUMENTS)
def test_an_error_document_never_fails(body: bytes) -> None:
    """What a registry says is printed, whatever it is."""
    assert _words(body).isprintable()


# -- Layers -----------------------------------------------------------------------------------------------------------

_COMPONENTS = ["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", ".wh..", "d" * 300, "\udcff"]
_NAMES = st.one_of(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join),
    st.lists(st.sampled_from(["a", "b", ".wh.a", ".wh..wh..opq"]), min_size=1, max_size=2).map("/".join),
    st.lists(st.sampled_from(_COMPONENTS), min_size=1, max_size=5).map("/".join),
    st.text(min_size=1, max_size=10),
    st.just("/etc/passwd"),
)
_TYPES = st.sampled_from([*(b"0", b"5", b"2", b"1") * 3, b"\0", b"3", b"4", b"6", b"7", b"S", b"Z"])
_HEADERS = ["path", "linkpath", "size", "mtime", "SCHILY.xattr.user.x", "SCHILY.xattr.user.overlay.opaque"]
_HEADERS += [f"GNU.sparse.{name}" for name in ("map", "size", "major", "minor", "realsize", "name")]
_VALUES = ["0", "1", "-1", "5,5", "0,1000", "99999999999999999999", "a", "../x", "nan", ""]
_PAX: st.SearchStrategy[dict[str, str]] = st.just({}) | st.dictionaries(
    st.sampled_from(_HEADERS), st.sampled_from(_VALUES), max_size=2
)


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    kind = draw(_TYPES)
    fields = {
        "type": kind,
        "mode": draw(st.sampled_from([0, 0o644, 0o755, 0o7777])),
        "linkname": draw(_NAMES) if kind in (b"1", b"2") else "",
        "pax_headers": draw(_PAX),
        "mtime": draw(st.sampled_from([0, 1, 1 << 31, 1 << 33])),
    }
    content = draw(st.binary(max_size=20)) if kind in (b"0", b"\0", b"7", b"S", b"Z") else b""
    return Entry(draw(_NAMES), content, fields)


@st.composite
def _archives(draw: st.DrawFn) -> bytes:
    """Write an archive of odd members; some are damaged afterwards, some cut off."""
    try:
        data = bytearray(tar(*draw(st.lists(_entries(), min_size=1, max_size=8))))
    except (ValueError, UnicodeError, tarfile.TarError):
        data = bytearray(draw(st.binary(max_size=2000)))
    damage = draw(st.integers(0, 9))
    if damage == 0 and data:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if damage == 1 else bytes(data)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with something precious in it, beside which layers are unpacked."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "precious").write_text("precious")
        yield Path(folder)


@fuzz
@given(data=_archives(), pack=st.sampled_from([bytes, gzip.compress]))
def test_a_layer_is_unpacked_or_refused(place: Path, data: bytes, pack: Any) -> None:
    """Nothing else happens, and nothing outside of its directory."""
    target = place / "tree"
    target.mkdir()
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        unpack(
            io.BytesIO(pack(data)),
            root,
            digest_of(data),
            compressed=len(data),
            limits=Limits(entries=50, size=1 << 20, small=1 << 20),
            step=lambda: None,
        )
    except Failure as failure:
        _check_words(failure)
    finally:
        os.close(root)
        found = [path.lstat() for path in target.rglob("*")]
        remove_tree(target)

    assert [] == [one for one in found if one.st_rdev or stat.S_ISBLK(one.st_mode)]
    assert ["precious"] == [path.name for path in place.iterdir()]
    assert "precious" == (place / "precious").read_text()
