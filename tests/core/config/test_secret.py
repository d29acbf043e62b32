"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import traceback

import pytest

from oubliette_core.config import Secret

CANARY = "canary-7f3a"


def test_only_reveal_returns_the_text() -> None:
    """Whoever hands a secret on says so in the code."""
    assert CANARY == Secret(CANARY).reveal()


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{:>40}".format,
        "{!r}".format,
        "%s".__mod__,
        pprint.pformat,
        lambda secret: f"{secret=}",
        lambda secret: repr({"key": [secret]}),
        lambda secret: str(ValueError(secret)),
        lambda secret: json.dumps(secret, default=str),
        lambda secret: logging.LogRecord("x", 10, "x", 1, "%s", (secret,), None).getMessage(),
    ],
)
def test_every_way_of_printing_is_masked(show: object) -> None:
    """Logs, messages and debuggers print what they hold in many ways."""
    assert callable(show)
    shown = show(Secret(CANARY))

    assert CANARY not in shown
    assert "***" in shown


def test_a_traceback_with_local_variables_is_masked() -> None:
    """Crash reports print the variables of every frame."""

    def fail(secret: Secret) -> None:
        raise ValueError(secret)

    try:
        fail(Secret(CANARY))
    except ValueError as error:
        report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())

    assert "***" in report
    assert CANARY not in report


def test_it_cannot_be_pickled() -> None:
    """A pickle holds everything in clear."""
    with pytest.raises(TypeError) as caught:
        pickle.dumps(Secret(CANARY))

    assert CANARY not in str(caught.value)


def test_copies_are_the_secret_itself() -> None:
    """Copying a configuration works, and makes no second copy of the text."""
    secret = Secret(CANARY)

    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": secret})["key"] is secret


def test_secrets_are_equal_when_their_texts_are() -> None:
    """Two configurations can be compared; a text is never equal to a secret."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))


def test_an_empty_secret_is_false() -> None:
    """An empty key is no key."""
    assert not Secret("")
    assert Secret("a")
