"""Image references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette_core.errors import InvalidReferenceError
from oubliette_core.reference import Reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("busybox", "", "busybox", "", ""),
        ("busybox:1.36", "", "busybox", "1.36", ""),
        ("team/app", "", "team/app", "", ""),
        ("registry:5000/x", "registry:5000", "x", "", ""),
        ("localhost/x:y", "localhost", "x", "y", ""),
        ("127.0.0.1:5000/a/b/c:v2", "127.0.0.1:5000", "a/b/c", "v2", ""),
        ("[::1]:5000/x", "[::1]:5000", "x", "", ""),
        (f"ghcr.io/o/i:v1@{DIGEST}", "ghcr.io", "o/i", "v1", DIGEST),
        (f"x@{DIGEST}", "", "x", "", DIGEST),
        ("my__repo/a.b-c_d", "", "my__repo/a.b-c_d", "", ""),
    ],
)
def test_parts(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    """A colon is a port before the first slash and a tag after the last: ``registry:5000/x`` has no tag."""
    expected = Reference(registry=registry, repository=repository, tag=tag, digest=digest)

    assert expected == Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Upper", "http://x", "https://ghcr.io/x", "a" * 64, "../../x", "-x", "--privileged", "a b", "x" * 300,
        "img; rm -rf /", "$(id)", "`id`", "a\nb", "a:", "a@", f"a@{DIGEST[:-1]}", "a//b", "/a", "a/", "a:b:c", "a\x00",
        "registry:99999999/x", "Team/app", "busybox\n",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    """What is not a reference never reaches an engine; a bare image id would be pulled as a repository."""
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)

    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("team/app:1", "docker.io/team/app:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        (f"x@{DIGEST}", f"docker.io/library/x@{DIGEST}"),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    """Two spellings of one image are one key for locks and one entry in an engine."""
    assert expected == str(Reference.parse(text).normalised())


_component = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)


@given(
    registry=st.sampled_from(["", "localhost", "r.io", "10.0.0.1:5000"]),
    components=st.lists(_component, min_size=1, max_size=3),
    tag=st.from_regex(r"(\w[\w.-]{0,20})?", fullmatch=True).filter(str.isascii),
    digest=st.sampled_from(["", DIGEST]),
)
def test_printing_is_the_inverse_of_parsing(registry: str, components: list[str], tag: str, digest: str) -> None:
    """A reference goes through logs, labels and locks as text and has to come back the same."""
    first = components[0] if registry or len(components) == 1 else components[0].replace(".", "x")
    reference = Reference(registry=registry, repository="/".join([first, *components[1:]]), tag=tag, digest=digest)
    if len(str(reference)) == 64 and not tag and not registry:
        return

    assert reference == Reference.parse(str(reference))


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No input makes the parser fail in another way."""
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError:
        return

    assert text == str(reference)


def test_the_full_form_is_a_reference_too() -> None:
    """Engines keep an image under it: what is as long as a name may be gets no longer."""
    longest = "a" * (255 - len("docker.io/library/"))

    assert longest in str(Reference.parse(str(Reference.parse(longest).normalised())))
    with pytest.raises(InvalidReferenceError):
        Reference.parse(f"{longest}a")
