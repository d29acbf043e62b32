"""Where a server writes in its home, and what is said when it cannot."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from oubliette_core.config import make_private_dir
from oubliette_core.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_core.config import Home


def prepare(home: Home) -> None:
    """See to it that a server can write where it has to, making directories that are missing.

    :raises ServiceError: it cannot.
    """
    with writing(home):
        for directory in (home.data_dir, home.locks_dir, home.logs_dir):
            make_private_dir(directory)
            if not os.access(directory, os.W_OK):  # a look only; what matters is said when something is written
                raise PermissionError(None, "it is read-only", str(directory))


@contextlib.contextmanager
def writing(home: Home) -> Iterator[None]:
    """Turn what the file system refuses into an error for people.

    :raises ServiceError: something cannot be written.
    """
    try:
        yield
    except TimeoutError:  # of a lock that is held
        raise
    except OSError as error:
        path = error.filename or home.data_dir
        raise ServiceError(
            f"{path} cannot be written: {error.strerror}",
            subject=str(path),
            hint="A server keeps locks, logs and records in its home: it has to be yours, writable and not full.",
        ) from error
