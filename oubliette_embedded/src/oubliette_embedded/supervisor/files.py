"""Small files that are written at one stroke, such as those of the kernel, and errors that do not matter."""

from __future__ import annotations

import os

__all__ = ["ignored", "write"]


class ignored:  # noqa: N801 - as `contextlib.suppress`, whose import would cost every start of a container 3 ms
    """Leaves out what is left of a block when it raises one of these errors."""

    def __init__(self, *errors: type[Exception]) -> None:
        self._errors = errors

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def write(path: str | bytes, data: bytes) -> None:
    """Write into a file that is there. :raises OSError: it is not, or does not take that."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
