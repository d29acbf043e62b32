"""Programs of the fake container that work on its files, each with the options that scripts use."""

from __future__ import annotations

import errno
import fnmatch
import re
import secrets
import stat
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.nodes import Identity, Node
from oubliette_core.testing.fake.tools_text import options
from oubliette_core.testing.fake.users import group_number, user_name, user_number

if TYPE_CHECKING:
    from oubliette_core.testing.fake.files import Place
    from oubliette_core.testing.fake.kernel import Program, Task

__all__ = ["FILE_TOOLS"]

_BLOCK = 1024 * 1024


def _place(task: Task, path: str, *, follow: bool = True) -> Place:
    return task.files.locate(path, task.who, cwd=task.cwd, follow=follow)


def _kind(node: Node) -> str:
    letters = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c", stat.S_IFREG: "-"}
    return letters.get(stat.S_IFMT(node.mode), "?")


def _ls(task: Task) -> int:
    found, names = options(task, "1alAdnhRF")
    code = 0
    for name in names or ["."]:
        try:
            place = _place(task, name, follow="l" not in found)
            if _kind(place.here) != "d" or "d" in found:
                _entry(task, name, place.here, found)
                continue
            if not task.files.allowed(place.here, task.who, 4):
                raise OSError(errno.EACCES, "Permission denied")
            entries = sorted(place.directory.names())
        except OSError as error:
            code = task.complain(f"{name}: {error.strerror}")
            continue
        if len(names) > 1:
            task.write(f"{name}:\n")
        if "a" in found:
            entries = [".", "..", *entries]
        for entry in entries:
            if "a" in found or "A" in found or not entry.startswith("."):
                _entry(task, entry, _place(task, f"{place.path}/{entry}", follow=False).here, found)
    return code


def _entry(task: Task, name: str, node: Node, found: dict[str, str]) -> None:
    if "l" not in found and "n" not in found:
        task.write(f"{name}\n")
        return
    owner = node.owner
    users = (str(owner.uid), str(owner.gid)) if "n" in found else (user_name(task.files, owner.uid), str(owner.gid))
    date = time.strftime("%b %d %H:%M", time.gmtime(node.mtime))
    arrow = f" -> {getattr(node, 'target', '')}" if _kind(node) == "l" else ""
    task.write(f"{stat.filemode(node.mode)} 1 {users[0]:8} {users[1]:8} {node.size:9} {date} {name}{arrow}\n")


def _mkdir(task: Task) -> int:
    found, names = options(task, "pv", "m")
    permissions = int(found.get("m") or "755", 8)
    code = 0
    for name in names:
        try:
            task.files.make_directory(name, task.who, cwd=task.cwd, parents="p" in found, permissions=permissions)
        except OSError as error:
            code = task.complain(f"can't create directory '{name}': {error.strerror}")
    return code


def _rm(task: Task) -> int:
    found, names = options(task, "rRfv")
    recursive, code = bool({"r", "R"} & set(found)), 0
    for name in names:
        try:
            if not recursive and _kind(_place(task, name, follow=False).here) == "d":
                raise OSError(errno.EISDIR, "Is a directory")
            task.files.remove(name, task.who, cwd=task.cwd, recursive=recursive)
        except OSError as error:
            if "f" not in found or error.errno != errno.ENOENT:
                code = task.complain(f"can't remove '{name}': {error.strerror}")
    return code


def _rmdir(task: Task) -> int:
    _, names = options(task, "p")
    code = 0
    for name in names:
        try:
            if not _place(task, name, follow=False).directory.names():
                task.files.remove(name, task.who, cwd=task.cwd)
            else:
                raise OSError(errno.ENOTEMPTY, "Directory not empty")
        except OSError as error:
            code = task.complain(f"'{name}': {error.strerror}")
    return code


def _touch(task: Task) -> int:
    _, names = options(task, "acm", "dt")
    code = 0
    for name in names:
        try:
            task.files.touch(name, task.who, cwd=task.cwd, time=time.time())
        except OSError as error:
            code = task.complain(f"{name}: {error.strerror}")
    return code


def _into(task: Task, source: str, target: str) -> str:
    """Return the target's path: inside it when it is a directory."""
    node = _place(task, target).node
    return f"{target}/{PurePosixPath(source).name}" if node is not None and _kind(node) == "d" else target


def _copy(task: Task, source: str, target: str, *, recursive: bool, keep: bool) -> None:
    node = _place(task, source, follow=not recursive).here
    if _kind(node) == "l":
        task.files.make_link(getattr(node, "target", ""), target, task.who, cwd=task.cwd)
    elif _kind(node) == "d":
        if not recursive:
            raise OSError(errno.EISDIR, "omitting directory")
        if _place(task, target).node is None:
            task.files.make_directory(target, task.who, cwd=task.cwd)
        for name in _place(task, source).directory.names():
            _copy(task, f"{source}/{name}", f"{target}/{name}", recursive=True, keep=keep)
    else:
        _copy_file(task, source, target)
        made = _place(task, target).here
        if task.who.uid in (0, made.owner.uid):
            made.change(mode=node.mode & (0o7777 if keep else 0o777), mtime=node.mtime if keep else None)


def _copy_file(task: Task, source: str, target: str) -> None:
    reader = task.files.open_node(source, "r", task.who, cwd=task.cwd)
    writer = task.files.open_node(target, "w", task.who, cwd=task.cwd)
    offset = 0
    while data := reader.read(offset, _BLOCK) if hasattr(reader, "read") else b"":
        task.check()
        writer.write(offset, data)  # type: ignore[union-attr]
        offset += len(data)


def _cp(task: Task) -> int:
    found, names = options(task, "rRapfv")
    *sources, target = names
    recursive = bool({"r", "R", "a"} & set(found))
    code = 0
    for source in sources:
        try:
            keep = bool({"a", "p"} & set(found))
            _copy(task, source, _into(task, source, target), recursive=recursive, keep=keep)
        except OSError as error:
            code = task.complain(f"can't copy '{source}': {error.strerror}")
    return code


def _mv(task: Task) -> int:
    _, names = options(task, "fv")
    *sources, target = names
    code = 0
    for source in sources:
        try:
            _move(task, source, _into(task, source, target))
        except OSError as error:
            code = task.complain(f"can't rename '{source}': {error.strerror}")
    return code


def _move(task: Task, source: str, target: str) -> None:
    try:
        task.files.move(source, target, task.who, cwd=task.cwd)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(task, source, target, recursive=True, keep=True)
        task.files.remove(source, task.who, cwd=task.cwd, recursive=True)


def _ln(task: Task) -> int:
    found, names = options(task, "sfn")
    source, target = names
    target = _into(task, source, target)
    try:
        if "f" in found and _place(task, target, follow=False).node is not None:
            task.files.remove(target, task.who, cwd=task.cwd)
        if "s" in found:
            task.files.make_link(source, target, task.who, cwd=task.cwd)
        else:
            task.files.link(source, target, task.who, cwd=task.cwd)
    except OSError as error:
        return task.complain(f"{target}: {error.strerror}")
    return 0


def _below(task: Task, name: str) -> list[str]:
    """List a path and everything below it, the path itself first."""
    node = _place(task, name, follow=False).here
    found = [name]
    if _kind(node) == "d":
        for entry in sorted(_place(task, name).directory.names()):
            found += _below(task, f"{name.rstrip('/')}/{entry}")
    return found


def _chmod(task: Task) -> int:
    recursive = task.argv[1:2] == ("-R",)
    wanted, *names = task.argv[2 if recursive else 1 :]
    code = 0
    for name in names:
        try:
            for path in _below(task, name) if recursive else [name]:
                mode = _new_mode(_place(task, path).here.mode, wanted)
                task.files.change_mode(path, mode, task.who, cwd=task.cwd)
        except OSError as error:
            code = task.complain(f"{name}: {error.strerror}")
    return code


def _new_mode(mode: int, wanted: str) -> int:
    if re.fullmatch("[0-7]{1,4}", wanted):
        return int(wanted, 8)
    mode &= 0o7777
    for clause in wanted.split(","):
        match = re.fullmatch("([ugoa]*)([-+=])([rwxXst]*)", clause)
        if match is None:
            raise OSError(errno.EINVAL, f"invalid mode '{wanted}'")
        bits = sum({"r": 4, "w": 2, "x": 1, "X": 1}.get(letter, 0) for letter in match[3])
        who = "ugo" if not match[1] or "a" in match[1] else match[1]
        mask = sum(bits << {"u": 6, "g": 3, "o": 0}[letter] for letter in who)
        mask |= 0o1000 if "t" in match[3] else 0
        if match[2] == "=":
            mode &= ~sum(7 << {"u": 6, "g": 3, "o": 0}[letter] for letter in who)
        mode = mode & ~mask if match[2] == "-" else mode | mask
    return mode


def _chown(task: Task) -> int:
    found, names = options(task, "Rhf")
    owner, *paths = names
    user, _, group = owner.partition(":")
    code = 0
    for name in paths:
        try:
            for path in _below(task, name) if "R" in found else [name]:
                old = _place(task, path, follow=False).here.owner
                uid = user_number(task.files, user) if user else old.uid
                gid = group_number(task.files, group) if group else old.gid
                if uid is None or gid is None:
                    return task.complain(f"unknown user/group {owner}")
                task.files.change_owner(path, Identity(uid, gid), task.who, cwd=task.cwd, follow="h" not in found)
        except OSError as error:
            code = task.complain(f"{name}: {error.strerror}")
    return code


def _stat(task: Task) -> int:
    found, names = options(task, "L", "c")
    form = found.get("c", "%n %s %a %u %g %F")
    code = 0
    for name in names:
        try:
            node = _place(task, name, follow="L" in found).here
        except OSError as error:
            code = task.complain(f"can't stat '{name}': {error.strerror}")
            continue
        kinds = {"d": "directory", "l": "symbolic link", "c": "character special file", "-": "regular file"}
        values = {
            "n": name, "s": str(node.size), "a": f"{node.mode & 0o7777:o}", "u": str(node.owner.uid),
            "g": str(node.owner.gid), "U": user_name(task.files, node.owner.uid), "G": str(node.owner.gid),
            "F": kinds.get(_kind(node), "unknown"), "Y": str(int(node.mtime)), "A": stat.filemode(node.mode),
        }  # fmt: skip
        task.write(re.sub("%([a-zA-Z])", lambda match, values=values: values.get(match[1], "?"), form) + "\n")  # type: ignore[misc]
    return code


def _readlink(task: Task) -> int:
    found, names = options(task, "f")
    try:
        for name in names:
            if "f" in found or task.argv[0].endswith("realpath"):
                task.write(task.files.real_path(name, task.who, cwd=task.cwd) + "\n")
            else:
                node = _place(task, name, follow=False).here
                if _kind(node) != "l":
                    return 1
                task.write(f"{getattr(node, 'target', '')}\n")
    except OSError as error:
        return task.complain(f"{error.filename}: {error.strerror}")
    return 0


def _find(task: Task) -> int:
    words = list(task.argv[1:])
    roots = []
    while words and not words[0].startswith("-"):
        roots.append(words.pop(0))
    tests = dict(zip(words[::2], words[1::2], strict=False))
    for root in roots or ["."]:
        try:
            paths = _below(task, root)
        except OSError as error:
            return task.complain(f"{root}: {error.strerror}")
        for path in paths:
            kind = _kind(_place(task, path, follow=False).here).replace("-", "f")
            if "-type" in tests and kind != tests["-type"]:
                continue
            if "-name" in tests and not fnmatch.fnmatchcase(PurePosixPath(path).name, tests["-name"]):
                continue
            task.write(f"{path}\n")
    return 0


def _mktemp(task: Task) -> int:
    found, names = options(task, "d", "p")
    # In the container's memory: nobody else can be there first.
    parent = found.get("p") or task.env.get("TMPDIR") or "/tmp"  # noqa: S108
    form = names[0] if names else f"{parent}/tmp.XXXXXX"  # noqa: S108
    path = re.sub("X+$", lambda match: secrets.token_hex(8)[: len(match[0])], form)
    try:
        if "d" in found:
            task.files.make_directory(path, task.who, cwd=task.cwd, permissions=0o700)
        else:
            task.files.write(path, b"", task.who, cwd=task.cwd)
    except OSError as error:
        return task.complain(f"{path}: {error.strerror}")
    task.write(f"{path}\n")
    return 0


def _test(task: Task) -> int:
    words = list(task.argv[1:])
    if task.argv[0].endswith("[") and (not words or words.pop() != "]"):
        return task.complain("missing ]") + 1
    return int(not _or(task, words))


def _or(task: Task, words: list[str]) -> bool:
    for connective, together in (("-o", any), ("-a", all)):
        if connective in words[1:-1] and len(words) > 3:
            index = words.index(connective, 1)
            return together([_or(task, words[:index]), _or(task, words[index + 1 :])])
    if words[:1] == ["!"]:
        return not _or(task, words[1:])
    return _primary(task, words)


def _primary(task: Task, words: list[str]) -> bool:  # noqa: PLR0911 - one return a form of expression
    match words:
        case []:
            return False
        case [word]:
            return word != ""
        case ["-n", word]:
            return word != ""
        case ["-z", word]:
            return word == ""
        case ["-t", number]:
            stream = task.streams.get(int(number))
            return stream is not None and stream.terminal is not None
        case [operator, path] if re.fullmatch("-[a-zA-Z]", operator):
            return _file_test(task, operator[1], path)
        case [left, operator, right]:
            return _compare(left, operator, right)
        case _:
            raise ValueError("unexpected operand")


def _compare(left: str, operator: str, right: str) -> bool:
    if operator in ("=", "==", "!="):
        return (left == right) == (operator != "!=")
    first, second = int(left), int(right)
    return {
        "-eq": first == second, "-ne": first != second, "-lt": first < second, "-le": first <= second,
        "-gt": first > second, "-ge": first >= second,
    }[operator]  # fmt: skip


def _file_test(task: Task, operator: str, path: str) -> bool:
    try:
        place = _place(task, path, follow=operator not in "hL")
        node = place.here
    except OSError:
        return False
    if operator in "rwx":
        wanted = {"r": 4, "w": 2, "x": 1}[operator]
        return task.files.allowed(node, task.who, wanted) and not (operator == "w" and place.read_only)
    if operator == "s":
        return node.size > 0
    return operator == "e" or _kind(node) == {"f": "-", "d": "d", "h": "l", "L": "l", "c": "c"}.get(operator)


FILE_TOOLS: dict[str, Program] = {
    "[": _test,
    "chmod": _chmod,
    "chown": _chown,
    "cp": _cp,
    "find": _find,
    "ln": _ln,
    "ls": _ls,
    "mkdir": _mkdir,
    "mktemp": _mktemp,
    "mv": _mv,
    "readlink": _readlink,
    "realpath": _readlink,
    "rm": _rm,
    "rmdir": _rmdir,
    "stat": _stat,
    "test": _test,
    "touch": _touch,
}
