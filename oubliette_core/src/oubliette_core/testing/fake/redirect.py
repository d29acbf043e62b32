"""Opening what a command reads and writes besides its arguments."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.nodes import File
from oubliette_core.testing.fake.streams import FileStream, OpenFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from oubliette_core.testing.fake.kernel import Task

__all__ = ["RedirectError", "open_path", "redirected"]

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_MODES = {"<": "r", ">": "w", ">>": "a", "<>": "rw"}


class RedirectError(Exception):
    """A redirection cannot be made; the command is not run."""


def open_path(task: Task, path: str, mode: str, streams: Mapping[int, OpenFile] | None = None) -> OpenFile:
    """Open a file for a process; ``/dev/stdout`` and its like are streams that it has already."""
    streams = task.streams if streams is None else streams
    number = _STREAMS.get(path)
    if number is None and path.startswith(("/dev/fd/", "/proc/self/fd/")) and path.rpartition("/")[2].isdigit():
        number = int(path.rpartition("/")[2])
    if number is not None and number in streams:
        return streams[number].share()
    return FileStream(task.files.open_node(path, mode, task.who, cwd=task.cwd), mode)


@contextmanager
def redirected(task: Task, redirects: Sequence[tuple[int, str, str]]) -> Iterator[dict[int, OpenFile]]:
    """Give the streams of a process with redirections applied; what was opened is closed at the end.

    :param redirects: number, operator and target of each, in their order.
    :raises RedirectError: a file cannot be opened, or there is no such stream.
    """
    streams, opened = dict(task.streams), []
    try:
        for number, operator, target in redirects:
            if operator[1:] == "&" and target == "-":
                streams.pop(number, None)
                continue
            stream = _open(task, operator, target, streams)
            opened.append(stream)
            streams[number] = stream
        yield streams
    finally:
        for stream in opened:
            stream.close()


def _open(task: Task, operator: str, target: str, streams: Mapping[int, OpenFile]) -> OpenFile:
    if operator == "<<":
        return FileStream(File(target.encode("utf-8", "surrogateescape")), "r")
    if operator[1:] == "&":
        stream = streams.get(int(target)) if target.isdigit() else None
        if stream is None:
            raise RedirectError(f"{target}: bad file descriptor")
        return stream.share()
    try:
        return open_path(task, target, _MODES[operator], streams)
    except OSError as error:
        verb = "open" if operator == "<" else "create"
        raise RedirectError(f"can't {verb} {target}: {error.strerror}") from error
