"""Trying a pull again: what is worth it, how long to wait, and how to stop waiting."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import ImagePullError, RuntimeLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oubliette_core.errors import PullFailure
    from oubliette_core.models import Cancel, ImageInfo

__all__ = ["Patience", "cancelled", "persist"]

_RETRIES: Mapping[PullFailure, int] = {
    # A registry that limits its rate counts every further request, too.
    "rate_limited": 0,
    # Damage on the way is gone at the second attempt; damage at the registry never is.
    "corrupt": 1,
}
"""How often at most a failure that a backend calls retryable is retried, where that is not up to `Patience`."""


@attrs.frozen(kw_only=True)
class Patience:
    """How long to keep trying.

    :param attempts: pulls in all. :param first_wait: seconds before the second; each later wait is twice as long,
        and a random part of up to a quarter is added.
    :param longest_wait: upper bound of a wait in seconds. A registry that asks for more (``Retry-After``) is not
        asked again.
    """

    attempts: int = 4
    first_wait: float = 1.0
    longest_wait: float = 30.0

    def wait(self, attempt: int, error: BaseException | None) -> float:
        """Return the seconds between ``attempt`` (from 1) and the next one."""
        asked = error.retry_after if isinstance(error, ImagePullError) else None
        own = min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)
        # Machines that failed together must not come back together. Nothing secret depends on it.
        own += own * random.uniform(0, 0.25)  # noqa: S311
        return max(own, asked or 0.0)

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Tell whether a pull is to be tried again after its ``attempt`` failed with ``error``."""
        if isinstance(error, RuntimeLostError):
            # A pull can be repeated whether or not the lost one took effect.
            return attempt < self.attempts
        if not isinstance(error, ImagePullError) or not error.retryable:
            return False
        if error.retry_after is not None and error.retry_after > self.longest_wait:
            return False
        return attempt < self.attempts and attempt <= _RETRIES.get(error.reason, self.attempts)


def persist(
    pull: Callable[[], ImageInfo],
    patience: Patience,
    *,
    retrying: Callable[[float, BaseException], None],
    cancel: Cancel,
    subject: str,
) -> ImageInfo:
    """Pull, and try again as ``patience`` has it.

    :param retrying: told the seconds of each wait, and why.
    :raises ImagePullError: the last failure; ``cancelled`` when that came during a wait.
    """
    # It imports asyncio, which commands that pull nothing should not pay for. Not stamina, which is built on it:
    # that one sleeps through a cancel.
    import tenacity  # noqa: PLC0415

    def failure(state: tenacity.RetryCallState) -> BaseException | None:
        return state.outcome.exception() if state.outcome is not None else None

    def again(state: tenacity.RetryCallState) -> bool:
        error = failure(state)
        return error is not None and not cancel.cancelled and patience.allows(state.attempt_number, error)

    def tell(state: tenacity.RetryCallState) -> None:
        error = failure(state)
        if error is not None:
            retrying(state.upcoming_sleep, error)

    def sleep(seconds: float) -> None:
        if cancel.wait(seconds):
            raise cancelled(subject)

    attempts = tenacity.Retrying(
        retry=again,
        wait=lambda state: patience.wait(state.attempt_number, failure(state)),
        sleep=sleep,
        before_sleep=tell,
        reraise=True,
    )
    return attempts(pull)


def cancelled(subject: str) -> ImagePullError:
    """Return the error of a pull that its caller cancelled."""
    return ImagePullError(f"the pull of {subject} was cancelled", reason="cancelled", subject=subject)
