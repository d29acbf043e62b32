"""Looking at a container from inside: whose workspace it sees, and as whom it runs.

All that is needed in the image is ``/bin/sh``; the scripts use nothing but what is built into it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import CommandNotFoundError, OperationCancelledError, StartFailedError
from oubliette_core.models import Capability, ExecResult, ExecSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oubliette_core.models import Cancel
    from oubliette_core.runtime import Runtime

__all__ = ["HOME", "USER_NAME", "WORKSPACE", "View", "add_names", "look"]

WORKSPACE = "/workspace"
HOME = "/home/oubliette"
"""Where the project's home directory is mounted: in no image, so it hides nothing."""
USER_NAME = "oubliette"

_LOOK = """
IFS= read -r nonce < "$1" && echo "nonce $nonce"
while read -r key real effective rest; do
    case $key in
    Uid:) uid=$effective && echo "uid $uid" ;;
    Gid:) gid=$effective && echo "gid $gid" ;;
    esac
done < /proc/self/status
while read -r first outside count; do echo "uid_map $first $outside $count"; done < /proc/self/uid_map
while read -r first outside count; do echo "gid_map $first $outside $count"; done < /proc/self/gid_map
while IFS=: read -r name secret number rest; do
    if [ "$number" = "$uid" ]; then echo "user $name"; fi
done < /etc/passwd
while IFS=: read -r name secret number rest; do
    if [ "$number" = "$gid" ]; then echo "group $name"; fi
done < /etc/group
echo end
"""
# Put first, so that it is what the number is called from now on.
_ADD_NAME = """
file=$1 line=$2 old=
if [ -e "$file" ]; then
    while IFS= read -r entry || [ -n "$entry" ]; do
        old="$old$entry
"
    done < "$file"
fi
printf '%s\\n%s' "$line" "$old" > "$file"
"""
_SECONDS = 20.0
_MOST_OUTPUT = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


@attrs.frozen(kw_only=True)
class View:
    """What a container's own user sees.

    :param nonce: content of the file that was looked for; empty when it is not there.
    :param uid: of the container's user, as the container counts. :param gid: likewise.
    :param outside_uid: the same as this machine counts; None where that cannot be told.
    :param users: names that the image has for the uid. :param groups: names that it has for the gid.
    """

    nonce: str
    uid: int
    gid: int
    outside_uid: int | None
    outside_gid: int | None
    users: tuple[str, ...]
    groups: tuple[str, ...]


def look(runtime: Runtime, container: str, nonce_name: str, *, cancel: Cancel | None = None) -> View:
    """See what a running container sees.

    :param nonce_name: name of a file in the workspace. :raises OperationCancelledError: cancelled.
    :raises StartFailedError: nothing can be run in it, or not with the result that any shell gives.
    """
    result = _run(runtime, container, (_LOOK, f"{WORKSPACE}/{nonce_name}"), cancel=cancel)
    if result.cancelled:
        raise OperationCancelledError("the look into the container was cancelled", subject=container)
    said: dict[str, list[str]] = {}
    for line in result.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    uid, gid = _number(said, "uid"), _number(said, "gid")
    if "end" not in said or uid is None or gid is None:
        raise StartFailedError(
            "the shell in the container did not tell as whom it runs",
            exit_code=result.exit_code,
            output=(result.stdout + result.stderr)[-4096:],
            runtime=runtime.name,
            subject=container,
            hint="The image needs a working /bin/sh and /proc.",
        )
    return View(
        nonce="".join(said.get("nonce", [])[:1]),
        uid=uid,
        gid=gid,
        outside_uid=_outside(uid, said.get("uid_map", [])),
        outside_gid=_outside(gid, said.get("gid_map", [])),
        users=tuple(name for name in said.get("user", []) if _NAME.fullmatch(name)),
        groups=tuple(name for name in said.get("group", []) if _NAME.fullmatch(name)),
    )


def add_names(runtime: Runtime, container: str, view: View, *, named: bool) -> None:
    """Give the container's user and group names where the image has none for them.

    A root that is mounted read-only cannot be changed; then the numbers have no names.

    :param named: the user is to be called `USER_NAME`, whatever else the image calls it.
    """
    root = None if view.uid == 0 else "0:0"
    if root and Capability.USER not in runtime.capabilities():
        return
    wanted = "root" if view.uid == 0 else USER_NAME
    if not view.users or (named and wanted not in view.users):
        line = f"{wanted}:x:{view.uid}:{view.gid}:{wanted}:{HOME}:/bin/sh"
        _run(runtime, container, (_ADD_NAME, "/etc/passwd", line), user=root)
    if not view.groups:
        line = f"{'root' if view.gid == 0 else USER_NAME}:x:{view.gid}:"
        _run(runtime, container, (_ADD_NAME, "/etc/group", line), user=root)


def _run(
    runtime: Runtime, container: str, script: tuple[str, ...], user: str | None = None, cancel: Cancel | None = None
) -> ExecResult:
    code, *arguments = script
    command = ("/bin/sh", "-c", code, "sh", *arguments)
    spec = ExecSpec(command=command, user=user, workdir="/", timeout=_SECONDS, output_limit=_MOST_OUTPUT)
    try:
        return runtime.exec(container, spec, cancel=cancel)
    except CommandNotFoundError as error:
        raise StartFailedError(
            "the image has no /bin/sh that can be run",
            exit_code=error.exit_code,
            runtime=runtime.name,
            subject=container,
            hint="Oubliette needs one to run commands in a container: use an image that has a shell.",
        ) from error


def _number(said: Mapping[str, list[str]], key: str) -> int | None:
    text = "".join(said.get(key, [])[:1])
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _outside(number: int, lines: Sequence[str]) -> int | None:
    """Translate a uid or gid by the lines of a map (user_namespaces(7)): first inside, first outside, how many.

    A kernel without user namespaces has no map, and one way to count.
    """
    if not lines:
        return number
    for line in lines:
        words = line.split()
        if len(words) == 3 and all(word.isascii() and word.isdigit() and len(word) <= 10 for word in words):
            first, outside, count = map(int, words)
            if first <= number < first + count:
                return outside + number - first
    return None
