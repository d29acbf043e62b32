"""Why a pull, a load or an unpacking did not succeed: `ImagePullError` before it is known for which image."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from oubliette_core.errors import ImagePullError, RuntimeOperationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_core.errors import PullFailure

__all__ = ["RUNTIME", "Failure", "corrupt", "damaged_here", "failed_as", "local_failure", "one_line", "reported"]

RUNTIME = "embedded"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Failure(Exception):  # noqa: N818 - turned into an error of the contract before anybody sees it
    """The work could not be done.

    :param why: ends the sentence "image X could not be pulled: ...". The rest is as in `ImagePullError`.
    """

    def __init__(
        self,
        why: str,
        reason: PullFailure = "other",
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(why)
        self.why = why
        self.reason: PullFailure = reason
        self.retryable = retryable
        self.retry_after = retry_after
        self.hint = hint


def corrupt(why: str) -> Failure:
    """Return the failure for content that is not what it has to be."""
    return Failure(why, "corrupt", hint="What was given is damaged or hostile. Push or save the image again.")


def damaged_here(what: str) -> Failure:
    """Return the failure for content that was right once, and is not any more."""
    return Failure(f"{what} was damaged on the disk", "corrupt", retryable=True, hint="Pull or load the image again.")


def local_failure(error: OSError) -> Failure:
    """Return the failure for what this machine's file system refused."""
    what = f"{error.strerror or error}{f': {error.filename}' if isinstance(error.filename, str) else ''}"
    if error.errno in _FULL:
        hint = "Free space, or remove images that are no longer used: oubliette image list"
        return Failure(what, "no_space", hint=hint)
    return Failure(what, hint="See whether the directory of the images is there and is yours.")


def failed_as(failure: Failure, sentence: str, subject: str) -> ImagePullError:
    """Return the error of the contract; ``sentence`` is such as ``image X could not be pulled``."""
    return ImagePullError(
        f"{sentence}: {failure.why}",
        reason=failure.reason,
        retryable=failure.retryable,
        retry_after=failure.retry_after,
        runtime=RUNTIME,
        subject=subject,
        hint=failure.hint,
    )


@contextlib.contextmanager
def reported(sentence: str, subject: str) -> Iterator[None]:
    """Let only errors of the contract out, each with the runtime and the subject."""
    try:
        yield
    except Failure as failure:
        raise failed_as(failure, sentence, subject) from failure
    except OSError as error:
        raise failed_as(local_failure(error), sentence, subject) from error
    except RuntimeOperationError as error:
        error.runtime = error.runtime or RUNTIME
        error.subject = error.subject or subject
        raise


def one_line(text: str, longest: int = 300) -> str:
    """Return what somebody else says as one line that is safe to print."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:longest]
