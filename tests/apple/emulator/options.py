"""The options of every command, with the versions that have them."""

from collections.abc import Callable
from typing import NamedTuple

Check = Callable[[str], bool]


class Option(NamedTuple):
    """An option: `names` with their dashes, the first long one names it in results."""

    names: tuple[str, ...]
    value: bool = False
    many: bool = False
    since: tuple[int, ...] = (0,)
    until: tuple[int, ...] = (99,)
    check: Check | None = None

    @property
    def key(self) -> str:
        """The name in results."""
        return next((name for name in self.names if name.startswith("--")), self.names[0]).lstrip("-")


class Command(NamedTuple):
    """A command: its words, its options, and what comes after them.

    :ivar at_least: number of positionals it needs. :ivar at_most: and takes; None for any number.
    :ivar verbatim: everything from the first positional on is taken as it stands.
    """

    words: tuple[str, ...]
    options: tuple[Option, ...] = ()
    at_least: int = 0
    at_most: int | None = 0
    verbatim: bool = False
    shape: str = ""
    since: tuple[int, ...] = (0,)


def _number(text: str) -> bool:
    return text.lstrip("-").isascii() and text.lstrip("-").isdigit()


def _one_of(*allowed: str) -> Check:
    return lambda text: text in allowed


def _flag(*names: str, since: tuple[int, ...] = (0,), until: tuple[int, ...] = (99,)) -> Option:
    return Option(names, since=since, until=until)


def _value(*names: str, since: tuple[int, ...] = (0,), check: Check | None = None) -> Option:
    return Option(names, value=True, since=since, check=check)


def _many(*names: str, since: tuple[int, ...] = (0,)) -> Option:
    return Option(names, value=True, many=True, since=since)


_PROCESS = (
    _many("-e", "--env"),
    _many("--env-file"),
    _value("--gid", check=_number),
    _flag("-i", "--interactive"),
    _flag("-t", "--tty"),
    _value("-u", "--user"),
    _value("--uid", check=_number),
    _many("--ulimit", since=(0, 9)),
    _value("-w", "--workdir", "--cwd"),
)
_RESOURCES = (_value("-c", "--cpus", check=_number), _value("-m", "--memory"))
_MANAGEMENT = (
    _value("-a", "--arch"),
    _many("--cap-add", since=(0, 12)),
    _many("--cap-drop", since=(0, 12)),
    _value("--cidfile"),
    _flag("-d", "--detach"),
    _many("--dns"),
    _value("--dns-domain"),
    _many("--dns-option"),
    _many("--dns-search"),
    _value("--entrypoint"),
    _flag("--init", since=(0, 10)),
    _value("--init-image", since=(0, 10)),
    _value("-k", "--kernel"),
    _many("--kernel-arg", since=(1, 2)),
    _many("-l", "--label"),
    _many("--masked-path", since=(1, 2, 1)),
    _many("--read-only-path", since=(1, 2, 1)),
    _many("--mount"),
    _value("--name"),
    _many("--network"),
    _flag("--no-dns"),
    _value("--os"),
    _many("-p", "--publish"),
    _value("--platform"),
    _many("--publish-socket"),
    _flag("--read-only", since=(0, 8)),
    _flag("--rm", "--remove"),
    _flag("--rosetta"),
    _value("--runtime", since=(0, 10)),
    _flag("--ssh"),
    _value("--shm-size", since=(1, 0)),
    _many("--tmpfs"),
    _flag("--virtualization"),
    _many("-v", "--volume"),
)
_FETCH = (_value("--scheme"), _value("--max-concurrent-downloads", since=(0, 7), check=_number))
_PROGRESS = (
    Option(("--progress",), value=True, until=(0, 12), check=_one_of("none", "ansi")),
    Option(("--progress",), value=True, since=(0, 12), check=_one_of("auto", "none", "ansi", "plain", "color")),
)
_PLATFORM = (_value("--platform"), _value("--os"), _value("-a", "--arch"))
_FORMAT = (
    Option(("--format",), value=True, until=(0, 12), check=_one_of("json", "table")),
    Option(("--format",), value=True, since=(0, 12), until=(1, 0), check=_one_of("json", "table", "yaml")),
    Option(("--format",), value=True, since=(1, 0), check=_one_of("json", "table", "yaml", "toml")),
)
_QUIET = (_flag("-q", "--quiet"),)
_ALL = (_flag("-a", "--all"),)
_FORCE = (_flag("-f", "--force"),)
_SIGNAL = (_value("-s", "--signal"),)
_BUILD = (
    _value("-a", "--arch"),
    _many("--build-arg"),
    _value("-c", "--cpus", check=_number),
    _value("-f", "--file"),
    _many("-l", "--label"),
    _value("-m", "--memory"),
    _flag("--no-cache"),
    _value("-o", "--output"),
    _value("--os"),
    _value("--platform"),
    _value("--progress", check=_one_of("auto", "plain", "tty")),
    _flag("--pull"),
    *_QUIET,
    _many("--secret"),
    _value("--ssh", since=(1, 2, 1)),
    _many("-t", "--tag"),
    _value("--target"),
    _value("--vsock-port", check=_number),
    _many("--dns"),
)
_KERNEL = (_flag("--enable-kernel-install"), _flag("--disable-kernel-install"))
_ROOTS = (_value("--app-root"), _value("--install-root"), _value("--log-root"))
_CREATE = (*_PROCESS, *_RESOURCES, *_MANAGEMENT, *_FETCH)

COMMANDS = (
    Command(("create",), _CREATE, 1, None, True, "[<options>] <image> [<arguments> ...]"),
    Command(("run",), (*_CREATE, *_PROGRESS), 1, None, True, "[<options>] <image> [<arguments> ...]"),
    Command(
        ("start",), (_flag("-a", "--attach"), _flag("-i", "--interactive")), 1, 1, shape="[<options>] <container-id>"
    ),
    Command(
        ("stop",),
        (*_ALL, *_SIGNAL, _value("-t", "--time", check=_number)),
        at_most=None,
        shape="[<options>] [<container-ids> ...]",
    ),
    Command(("kill",), (*_ALL, *_SIGNAL), at_most=None, shape="[<options>] [<container-ids> ...]"),
    Command(("delete",), (*_ALL, *_FORCE), at_most=None, shape="[<options>] [<container-ids> ...]"),
    Command(("inspect",), (), 1, None, shape="<container-ids> ..."),
    Command(
        ("exec",), (*_PROCESS, _flag("-d", "--detach")), 2, None, True, "[<options>] <container-id> <arguments> ..."
    ),
    Command(("list",), (*_ALL, *_FORMAT, *_QUIET), shape="[<options>]"),
    Command(
        ("logs",),
        (_flag("--boot"), _flag("-f", "--follow"), Option(("-n",), value=True, check=_number)),
        1,
        1,
        shape="[<options>] <container-id>",
    ),
    Command(("build",), _BUILD, at_most=1, shape="[<options>] [<context-dir>]"),
    Command(("image", "pull"), (*_PLATFORM, *_FETCH, *_PROGRESS), 1, 1, shape="[<options>] <reference>"),
    Command(("image", "list"), (*_FORMAT, *_QUIET, _flag("-v", "--verbose")), shape="[<options>]"),
    Command(("image", "inspect"), (), 1, None, shape="<images> ..."),
    Command(
        ("image", "delete"),
        (*_ALL, _flag("-f", "--force", since=(0, 9))),
        at_most=None,
        shape="[<options>] [<images> ...]",
    ),
    Command(("image", "tag"), (), 2, 2, shape="<source> <target>"),
    Command(("image", "load"), (_value("-i", "--input"), *_FORCE), shape="[<options>]"),
    Command(("image", "save"), (*_PLATFORM, _value("-o", "--output")), 1, None, shape="[<options>] <references> ..."),
    Command(
        ("network", "create"),
        (
            _flag("--internal", since=(0, 9)),
            _many("--label"),
            _many("--option"),
            _value("--plugin"),
            _value("--subnet"),
            _value("--subnet-v6"),
        ),
        1,
        1,
        shape="[<options>] <name>",
    ),
    Command(("network", "delete"), _ALL, at_most=None, shape="[<options>] [<names> ...]"),
    Command(("network", "list"), (*_FORMAT, *_QUIET), shape="[<options>]"),
    Command(("volume", "create"), (_many("--label"), _many("--opt"), _value("-s")), 1, 1, shape="[<options>] <name>"),
    Command(("volume", "delete"), _ALL, at_most=None, shape="[<options>] [<names> ...]"),
    Command(("volume", "list"), (*_FORMAT, *_QUIET), shape="[<options>]"),
    Command(
        ("system", "start"),
        (*_ROOTS, *_KERNEL, _value("--timeout", since=(0, 10), check=_number)),
        shape="[<options>]",
    ),
    Command(("system", "stop"), (_value("-p", "--prefix"),), shape="[<options>]"),
    Command(
        ("system", "status"),
        (_value("-p", "--prefix"), *(option._replace(since=max(option.since, (0, 10))) for option in _FORMAT)),
        shape="[<options>]",
    ),
    Command(("system", "version"), _FORMAT, shape="[<options>]"),
)
ALIASES = {"rm": "delete", "ls": "list", "i": "image", "n": "network", "v": "volume", "s": "system"}
OMITTED = (
    "copy",
    "cp",
    "export",
    "stats",
    "prune",
    "registry",
    "machine",
    "builder",
    "push",
    "dns",
    "df",
    "kernel",
    "property",
)
