"""The tree of errors."""

from __future__ import annotations

import inspect
import re

import pytest

from oubliette_core import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def drawn() -> dict[str, str]:
    """Read the tree at the top of the module: name of each class to the name of the one it stands under."""
    parents: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(?P<lines>[ │├└─]*)(?P<name>\w+Error)$", line)
        if found:
            depth = len(found["lines"])
            stack = [entry for entry in stack if entry[0] < depth]
            parents[found["name"]] = stack[-1][1] if stack else "Exception"
            stack.append((depth, found["name"]))
    return parents


def test_the_drawing_is_the_tree() -> None:
    """The drawing is what people read, so it has to be what the classes are."""
    expected = {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}

    assert expected == drawn()


def test_every_error_is_public() -> None:
    """Whoever catches an error has to be able to import it."""
    assert {cls.__name__ for cls in CLASSES} == set(errors.__all__) - {"PullFailure"}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_message_and_hint_are_attributes(cls: type[errors.OublietteError]) -> None:
    """A front end prints ``message`` and ``hint`` of whatever it catches."""
    error = cls("it broke", hint="mend it")

    assert ("it broke", "it broke", "mend it") == (str(error), error.message, error.hint)


def test_data_is_kept_as_attributes() -> None:
    """Programs decide by attributes, never by text."""
    error = errors.ImagePullError(
        "no", reason="rate_limited", retryable=False, retry_after=30.0, runtime="docker", subject="busybox:latest"
    )

    assert ("rate_limited", False, 30.0, "docker", "busybox:latest") == (
        error.reason,
        error.retryable,
        error.retry_after,
        error.runtime,
        error.subject,
    )
