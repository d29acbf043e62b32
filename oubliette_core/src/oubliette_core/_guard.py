"""What is checked before a backend sees it.

Engines are lenient in ways that hurt: an id such as ``../volumes/x`` reaches another endpoint of Docker's API and
deletes a volume, a word that starts with ``-`` becomes an option of a command-line client, a relative or
``/proc/self/fd`` working directory has led out of a container. So everything is matched against what is allowed,
never against what is known to be bad.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import attrs

from oubliette_core.errors import InvalidReferenceError, InvalidSpecError, InvalidValueError, UnsupportedError
from oubliette_core.models import BuildSpec, Capability, ContainerSpec, ExecSpec, LogSpec, Mount
from oubliette_core.reference import Reference

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_IMAGE_ID = re.compile(r"sha256:[a-f0-9]{64}")
_PLATFORM = re.compile(r"[a-z0-9]{1,20}/[a-z0-9_]{1,20}(?:/[a-z0-9.]{1,20})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
_HOSTNAME = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{1,40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_ARGUMENT = 128 * 1024 - 1
"""Linux refuses a single argument or variable of 128 KiB (``MAX_ARG_STRLEN``)."""
_SMALLEST_MEMORY = 4 * 1024 * 1024

_NEEDS: dict[str, Capability] = {
    "memory": Capability.MEMORY_LIMIT,
    "cpus": Capability.CPU_LIMIT,
    "pids": Capability.PIDS_LIMIT,
    "read_only": Capability.READ_ONLY,
    "drop_capabilities": Capability.CAPABILITIES,
    "add_capabilities": Capability.CAPABILITIES,
    "no_new_privileges": Capability.NO_NEW_PRIVILEGES,
    "init": Capability.INIT,
    "hostname": Capability.HOSTNAME,
    "user": Capability.USER,
}
"""Which capability a field of `ContainerSpec` needs; ``network`` and ``mounts`` depend on their value."""


def container(value: str) -> str:
    """Return a container's id or name, or raise `InvalidValueError`."""
    return _match(_NAME, value, "a container id or name")


def image(value: str, *, allow_id: bool = False) -> str:
    """Return an image reference with its default tag, or raise `InvalidReferenceError`."""
    if not isinstance(value, str):
        raise InvalidReferenceError(f"{value!r} is not an image reference", value=repr(value))
    if allow_id and _IMAGE_ID.fullmatch(value):
        return value
    return str(Reference.parse(value).with_default_tag())


def platform(value: str | None) -> str | None:
    """Return ``os/architecture[/variant]``, or raise `InvalidValueError`."""
    return None if value is None else _match(_PLATFORM, value, "a platform (os/architecture[/variant])")


def seconds(value: float | None, what: str, *, minimum: float = 0.0) -> float | None:
    """Return a finite number of seconds, or raise `InvalidValueError`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < minimum:
        raise InvalidValueError(f"{what} has to be at least {minimum:g} seconds, not {value!r}", value=repr(value))
    return float(value)


def labels(value: Mapping[str, str]) -> Mapping[str, str]:
    """Return labels whose keys and values are printable, or raise `InvalidSpecError`."""
    for key, text in value.items():
        _match(_LABEL, key, "a label's name", InvalidSpecError)
        if not isinstance(text, str) or _CONTROL.search(text) or len(text) > 4096:
            raise InvalidSpecError(f"the value of label {key} is not one printable line", value=key)
    return value


def path_inside(value: str, what: str) -> str:
    """Return an absolute path in a container, or raise `InvalidSpecError`."""
    if not isinstance(value, str) or not value.startswith("/") or _CONTROL.search(value) or len(value) > 4095:
        raise InvalidSpecError(f"{what} has to be an absolute path, not {_shown(value)}", value=_shown(value))
    if ".." in PurePosixPath(value).parts:
        raise InvalidSpecError(f"{what} {_shown(value)} must not contain '..'", value=_shown(value))
    return value


def container_spec(spec: ContainerSpec) -> ContainerSpec:
    """Return ``spec`` with its reference completed, or raise the first thing that is wrong with it."""
    unknown = spec.preferred - {field.name for field in attrs.fields(ContainerSpec)}
    if unknown:
        raise InvalidSpecError(f"no such settings to prefer: {', '.join(sorted(unknown))}")
    platform(spec.platform)
    if spec.name is not None:
        container(spec.name)
    for words in (spec.command, spec.entrypoint):
        if words is not None:
            _argv(words)
    _process(spec.env, spec.workdir, spec.user)
    labels(spec.labels)
    for mount in spec.mounts:
        _mount(mount)
    _limits(spec)
    _match(_NAME, spec.network, "a network", InvalidSpecError)
    for name in (*spec.drop_capabilities, *spec.add_capabilities):
        _match(_CAPABILITY, name, "a Linux capability (without CAP_)", InvalidSpecError)
    if spec.hostname is not None:
        _match(_HOSTNAME, spec.hostname, "a host name", InvalidSpecError)
    return attrs.evolve(spec, image=image(spec.image, allow_id=True))


def enforceable(
    spec: ContainerSpec, declared: frozenset[Capability], runtime: str
) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Split what is asked for by what the backend declares.

    :returns: the specification without the preferred settings that cannot be enforced, and their names.
    :raises UnsupportedError: a required setting cannot be enforced.
    """
    left_out = []
    for name, capability in needs(spec):
        if capability in declared:
            continue
        if name not in spec.preferred:
            raise UnsupportedError(
                f"runtime {runtime} cannot enforce {name} ({capability.value})",
                capability=capability.value,
                runtime=runtime,
                subject=spec.name or spec.image,
                hint=f"Leave {name} out, or choose a runtime that declares {capability.value}: oubliette runtime list",
            )
        left_out.append(name)
    blank = ContainerSpec(image=spec.image)
    kept = attrs.evolve(spec, **{name: getattr(blank, name) for name in left_out}, preferred=frozenset())
    return kept, tuple(sorted(left_out))


def needs(spec: ContainerSpec) -> Iterable[tuple[str, Capability]]:
    """Yield each setting of ``spec`` that is asked for, with the capability it needs."""
    blank = ContainerSpec(image=spec.image)
    for name, capability in _NEEDS.items():
        if getattr(spec, name) != getattr(blank, name):
            yield name, capability
    if spec.network != "default":
        named = {"none": Capability.NETWORK_NONE, "host": Capability.NETWORK_HOST}
        yield "network", named.get(spec.network, Capability.NETWORK_NAMED)
    kinds = {mount.kind for mount in spec.mounts}
    if "volume" in kinds:
        yield "mounts", Capability.VOLUMES
    if "tmpfs" in kinds:
        yield "mounts", Capability.TMPFS


def exec_spec(spec: ExecSpec) -> ExecSpec:
    """Return ``spec``, or raise the first thing that is wrong with it."""
    if not spec.command or not spec.command[0]:
        raise InvalidSpecError("the command is empty", hint="Give at least the program's name.")
    _argv(spec.command)
    _process(spec.env, spec.workdir, spec.user)
    seconds(spec.timeout, "timeout", minimum=0.001)
    if not isinstance(spec.stdin, bytes):
        raise InvalidSpecError("stdin has to be bytes")
    _whole(spec.output_limit, "output_limit", 0)
    return spec


def log_spec(spec: LogSpec) -> LogSpec:
    """Return ``spec``, or raise the first thing that is wrong with it."""
    _whole(spec.tail, "tail", 0)
    if spec.since is not None and spec.since.tzinfo is None:
        raise InvalidSpecError("since has to be a time with a time zone")
    return spec


def build_spec(spec: BuildSpec) -> BuildSpec:
    """Return ``spec`` with its tag completed, or raise the first thing that is wrong with it."""
    if not Path(spec.context).is_dir():
        raise InvalidSpecError(f"{spec.context} is not a directory", value=str(spec.context))
    inside = PurePosixPath(spec.dockerfile)
    if inside.is_absolute() or ".." in inside.parts:
        raise InvalidSpecError(f"{spec.dockerfile} is not below the build's directory", value=spec.dockerfile)
    platform(spec.platform)
    _variables(spec.build_args)
    labels(spec.labels)
    if spec.target is not None:
        _match(_NAME, spec.target, "a build stage", InvalidSpecError)
    return attrs.evolve(spec, tag=image(spec.tag))


def _process(env: Mapping[str, str], workdir: str | None, user: str | None) -> None:
    _variables(env)
    if workdir is not None:
        path_inside(workdir, "workdir")
        if _below(workdir, "/proc", "/dev/fd"):
            raise InvalidSpecError(f"workdir {workdir} is not allowed: it can lead out of the container", value=workdir)
    if user is not None:
        _match(_USER, user, "a user (name or uid[:gid])", InvalidSpecError)


def _variables(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        _match(_VARIABLE, name, "the name of an environment variable", InvalidSpecError)
        # The value may be a secret: it is never part of the message.
        if not isinstance(value, str) or "\0" in value or len(value.encode()) + len(name) >= _LONGEST_ARGUMENT:
            raise InvalidSpecError(
                f"the value of variable {name} is not text without NUL of less than 128 KiB", value=name
            )


def _argv(words: tuple[str, ...]) -> None:
    if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
        raise InvalidSpecError("a command has to be a tuple of words, never one shell string")
    for word in words:
        if "\0" in word:
            raise InvalidSpecError("a command's words must not contain NUL", value=_shown(word))
        if len(word.encode(errors="surrogateescape")) > _LONGEST_ARGUMENT:
            raise InvalidSpecError(
                "a command's word is 128 KiB or longer, which Linux refuses",
                value=_shown(word),
                hint="Pass the text through stdin or a file.",
            )


def _mount(mount: Mount) -> None:
    path_inside(mount.target, "a mount's target")
    if PurePosixPath(mount.target) == PurePosixPath("/") or _below(mount.target, "/proc", "/sys"):
        raise InvalidSpecError(f"nothing can be mounted at {mount.target}", value=mount.target)
    if mount.kind == "bind":
        path_inside(mount.source, "a bind mount's source")
    elif mount.kind == "volume":
        _match(_NAME, mount.source, "a volume's name", InvalidSpecError)
    elif mount.kind != "tmpfs" or mount.source:
        raise InvalidSpecError(
            f"a mount is bind, volume, or tmpfs without a source, not {mount.kind!r}", value=mount.kind
        )
    _whole(mount.size, "a tmpfs size", 4096)


def _limits(spec: ContainerSpec) -> None:
    _whole(spec.memory, "memory", _SMALLEST_MEMORY)
    _whole(spec.pids, "pids", 1)
    if spec.cpus is not None and (not math.isfinite(spec.cpus) or spec.cpus < 0.01):
        raise InvalidSpecError(f"cpus has to be at least 0.01, not {spec.cpus!r}", value=repr(spec.cpus))


def _whole(value: int | None, what: str, minimum: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
        raise InvalidSpecError(
            f"{what} has to be a whole number of at least {minimum}, not {value!r}", value=repr(value)
        )


def _below(path: str, *roots: str) -> bool:
    pure = PurePosixPath("/" + path.lstrip("/"))
    return any(pure == PurePosixPath(root) or PurePosixPath(root) in pure.parents for root in roots)


def _match(
    pattern: re.Pattern[str], value: object, what: str, error: type[InvalidValueError] = InvalidValueError
) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise error(f"{_shown(value)} is not {what}", value=_shown(value))
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
