"""Whether this machine can run containers without an engine, and if not, why, and what to do about it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from oubliette_core.models import Probe
from oubliette_embedded._bubblewrap import Bubblewrap, BubblewrapError, find_bubblewrap
from oubliette_embedded._capabilities import ELSEWHERE, PRIORITY
from oubliette_embedded.supervisor.record import boot_id
from oubliette_embedded.supervisor.trampoline import trampoline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_embedded._options import Options


__all__ = ["Facts", "explain", "probe"]

_SECONDS = 1.2
_NOT_FOUND = 127
_SYSCTLS = {
    "max_user_namespaces": "user/max_user_namespaces",
    "unprivileged_userns_clone": "kernel/unprivileged_userns_clone",
    "apparmor_restrict": "kernel/apparmor_restrict_unprivileged_userns",
}


@attrs.frozen(kw_only=True)
class Facts:
    """What the machine says about itself; None for what it does not know.

    :param max_user_namespaces: how many there may be. :param unprivileged_userns_clone: whether ordinary users may
        make some (Debian). :param apparmor_restrict: whether AppArmor takes their worth away (Ubuntu).
    """

    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None
    apparmor_restrict: int | None = None
    superuser: bool = False

    @classmethod
    def gathered(cls, sysctls: Path = Path("/proc/sys")) -> Facts:
        """Ask the machine. :param sysctls: tests give another directory."""
        found: dict[str, int] = {}
        for name, path in _SYSCTLS.items():
            with contextlib.suppress(OSError, ValueError):
                found[name] = int((sysctls / path).read_text(encoding="ascii"))
        return cls(**found, superuser=os.geteuid() == 0)


@attrs.frozen
class _Obstacle:
    """Why it does not work, and what to do."""

    detail: str
    hint: str


_NO_NAMESPACES = _Obstacle(
    "user namespaces are switched off", "As the superuser: sysctl -w user.max_user_namespaces=15000"
)
_NO_UNPRIVILEGED = _Obstacle(
    "user namespaces are switched off for ordinary users",
    "As the superuser: sysctl -w kernel.unprivileged_userns_clone=1",
)
_APPARMOR = _Obstacle(
    "AppArmor keeps ordinary users from using user namespaces (Ubuntu 24.04 and later)",
    "As the superuser: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for this program "
    "that has 'userns,'",
)
_NO_OVERLAY = _Obstacle(
    "the kernel does not stack directories (overlay) for ordinary users in {root}",
    "That needs Linux 5.11, and a file system such as ext4, xfs, btrfs or tmpfs: set runtimes.embedded.root",
)
_IN_CONTAINER = _Obstacle(
    "this is a container that may not have containers of its own",
    "Run it with more rights (Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined), or outside",
)


def explain(said: str, facts: Facts, root: Path) -> tuple[str, str]:
    """Return why bubblewrap could not make a sandbox, and what to do.

    :param said: what it printed.
    """
    ordinary = not facts.superuser
    if facts.max_user_namespaces == 0:
        found = _NO_NAMESPACES
    elif ordinary and facts.unprivileged_userns_clone == 0:
        found = _NO_UNPRIVILEGED
    elif ordinary and facts.apparmor_restrict == 1 and "overlay" not in said:
        found = _APPARMOR
    elif "overlay" in said:
        found = _NO_OVERLAY
    elif any(word in said for word in ("mount proc", "pivot_root", "Failed to make / slave", "new namespace")):
        found = _IN_CONTAINER
    else:
        return f"bubblewrap cannot make a sandbox here: {said or 'it said nothing'}", ELSEWHERE
    return found.detail.format(root=root), f"{found.hint}. {ELSEWHERE}"


def probe(options: Options, remarks: tuple[str, str]) -> Probe:
    """See `RuntimeSpec.probe`. :param remarks: what is to be said when it works: a detail and a hint."""
    try:
        bwrap = find_bubblewrap(options.bwrap)
        facts = Facts.gathered()
        state = _state(bwrap, facts)
        version = _remembered(options.root, state)
        if not version:
            said = _attempt(bwrap, options.root)
            if said is not None:
                detail, hint = explain(said, facts, options.root)
                return Probe(available=False, priority=PRIORITY, detail=detail, hint=hint)
            version = bwrap.version()
            _remember(options.root, state, version)
    except BubblewrapError as error:
        return Probe(available=False, priority=PRIORITY, detail=str(error), hint=error.hint)
    except OSError as error:
        return Probe(
            available=False,
            priority=PRIORITY,
            detail=f"{options.root} cannot be used: {error.strerror or error}",
            hint="Set runtimes.embedded.root, or XDG_DATA_HOME, to a directory of yours.",
        )
    detail, hint = remarks
    return Probe(
        available=True, version=version, priority=PRIORITY, detail=f"bubblewrap {version}; {detail}", hint=hint
    )


def _state(bwrap: Bubblewrap, facts: Facts) -> dict[str, object]:
    """Return what the outcome of an attempt depends on: while that is the same, it need not be made again."""
    status = bwrap.path.stat()
    return {
        "boot": boot_id(),
        "kernel": os.uname().release,
        "bwrap": [str(bwrap.path), status.st_mtime_ns, status.st_size],
        "facts": attrs.asdict(facts),
        "namespace": Path("/proc/self/ns/mnt").stat().st_ino,
        "uid": os.geteuid(),
    }


def _remembered(root: Path, state: Mapping[str, object]) -> str:
    """Return bubblewrap's version if it has been seen to work here."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        note = json.loads((root / "works.json").read_bytes())
        if note.get("state") == state:
            return str(note.get("version", ""))
    return ""


def _remember(root: Path, state: Mapping[str, object], version: str) -> None:
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(dir=root)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump({"state": state, "version": version}, file)
        Path(name).replace(root / "works.json")


def _attempt(bwrap: Bubblewrap, root: Path) -> str | None:
    """Have a sandbox made that looks like a container's; None when that works, else what bubblewrap said."""
    with _directories(root) as (lower, upper, work), contextlib.ExitStack() as stack:
        program, library = bwrap.open()
        nothing = trampoline(os.uname().machine)
        descriptors = [descriptor for descriptor in (program, library, nothing) if descriptor >= 0]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        options = [
            *("--unshare-all", "--uid", "0", "--gid", "0", "--die-with-parent", "--cap-drop", "ALL"),
            *("--overlay-src", str(lower), "--overlay", str(upper), str(work), "/"),
            *("--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"),
        ]
        env = {"LD_PRELOAD": f"/proc/self/fd/{library}"} if library >= 0 else {}
        # A program that looks for nothing, and finds it.
        command = [f"/proc/self/fd/{program}", *options, "--", f"/proc/self/fd/{nothing}", "", "nothing"]
        try:
            done = subprocess.run(  # noqa: PLW1510 - the code is looked at
                command, stdin=subprocess.DEVNULL, capture_output=True, env=env, pass_fds=descriptors, timeout=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if done.returncode == _NOT_FOUND:
        return None
    return " ".join(done.stderr.decode(errors="replace").split()) or f"exit code {done.returncode}"


@contextlib.contextmanager
def _directories(root: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Make directories where those of containers are, and remove them with whatever was made on the way."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="probe-", ignore_cleanup_errors=True) as name:
        made = tuple(Path(name) / part for part in ("lower", "upper", "work"))
        for directory in made:
            directory.mkdir()
        yield made[0], made[1], made[2]
        with contextlib.suppress(OSError):
            (made[2] / "work").chmod(0o700)
