"""Debian and Ubuntu packages unpacked into a private cache, without installing anything.

apt resolves and verifies the packages, but with state and cache directories of our own, so that neither the
system's package lists nor its database change. What is already installed is not fetched again: the unpacked
tree completes the system, it does not replace it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ENGINE_PACKAGES = ("docker.io", "docker-registry", "busybox-static", "iproute2", "iptables")
REGISTRY_PACKAGES = ("docker-registry", "busybox-static")
_OPTIONAL_PACKAGES = ("docker-cli",)  # split from docker.io in Debian 13
_LAYOUT = 1  # part of the cache key: raise it when the unpacked tree is laid out differently
_BIN_DIRS = ("alternatives", "usr/sbin", "usr/bin", "sbin", "bin")
_SYSTEM_BIN_DIRS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class PackagesUnavailableError(Exception):
    """The packages could not be fetched; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """Programs of an unpacked tree, completed by those of the system."""

    root: Path | None

    def find(self, name: str) -> Path | None:
        """Give the path of the program `name`, or None."""
        found = shutil.which(name, path=self.search_path())
        return Path(found) if found else None

    def search_path(self) -> str:
        """Give a PATH with the unpacked tree first."""
        own = [str(self.root / part) for part in _BIN_DIRS] if self.root else []
        return os.pathsep.join([*own, os.environ.get("PATH", os.defpath), *_SYSTEM_BIN_DIRS])

    def environment(self) -> dict[str, str]:
        """Give the environment in which the unpacked programs find each other and their libraries."""
        env = {**os.environ, "PATH": self.search_path(), "XTABLES_LOCKFILE": os.devnull}
        if self.root is None:
            return env
        libraries = [*self.root.glob("usr/lib/*-linux-gnu*"), *self.root.glob("lib/*-linux-gnu*")]
        if libraries:
            env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
        for modules in self.root.glob("usr/lib/*/xtables"):
            env["XTABLES_LIBDIR"] = str(modules)
        return env


def apt_is_here() -> bool:
    """Tell whether this system has what fetching packages takes."""
    return all(shutil.which(tool) for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-deb"))


def cache_dir() -> Path:
    """Give the directory that keeps unpacked packages between runs."""
    chosen = os.environ.get("OUBLIETTE_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(chosen) if chosen else (Path(base) if base else Path.home() / ".cache") / "oubliette-tests"


def unpacked(packages: Sequence[str]) -> Programs:
    """Give the programs of `packages`, fetching them first when this is the first time.

    Processes that ask at the same time wait for one that fetches.
    Raises `PackagesUnavailableError` when apt cannot resolve or download them.
    """
    place = cache_dir() / _key(packages)
    root = place / "root"
    if not root.is_dir():
        with _locked(cache_dir() / f"{place.name}.lock"):
            if not root.is_dir():
                _fetch(packages, place)
    return Programs(root=root)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(packages: Sequence[str]) -> str:
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    parts = [str(_LAYOUT), os.uname().machine, release, *packages]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _fetch(packages: Sequence[str], place: Path) -> None:
    print(f"Fetching {', '.join(packages)} into {place} (once; nothing is installed)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=place.parent) as scratch:
        options = _apt_options(Path(scratch))
        with contextlib.suppress(PackagesUnavailableError):  # one dead third-party source must not matter
            _run(["apt-get", *options, "--quiet", "update"])
        wanted = [*packages, *(name for name in _OPTIONAL_PACKAGES if _exists(name, options))]
        download = ["install", "--download-only", "--yes", "--quiet", "--no-install-recommends"]
        _run(["apt-get", *options, *download, *wanted])
        root = Path(scratch) / "root"
        root.mkdir()
        for archive in sorted((Path(scratch) / "cache" / "archives").glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(archive), str(root)])
        _choose_iptables(root)
        place.mkdir(exist_ok=True)
        root.rename(place / "root")


def _apt_options(scratch: Path) -> list[str]:
    for part in ("state/lists/partial", "cache/archives/partial"):
        (scratch / part).mkdir(parents=True)
    settings = {
        "Dir::State": scratch / "state",
        "Dir::State::status": "/var/lib/dpkg/status",  # what is installed need not be fetched
        "Dir::Cache": scratch / "cache",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "root",  # the sandbox user cannot enter a cache in a private home
        "Debug::NoLocking": "1",  # the lock protects the system's database, which is only read
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _exists(package: str, options: list[str]) -> bool:
    shown = subprocess.run(["apt-cache", *options, "show", package], capture_output=True, check=False)
    return shown.returncode == 0


def _run(command: list[str]) -> None:
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise PackagesUnavailableError(f"{command[0]} failed with exit code {done.returncode}:\n{tail}")


def _choose_iptables(root: Path) -> None:
    """Do what the package's install script would: give `iptables` a name, as the variant this kernel knows."""
    chosen = root / "alternatives"
    chosen.mkdir()
    variants = [name for name in ("nft", "legacy") if (root / f"usr/sbin/iptables-{name}").exists()]
    if not variants:
        return
    env = Programs(root=root).environment()
    working = [name for name in variants if _iptables_works(root / f"usr/sbin/iptables-{name}", env)]
    variant = (working or variants)[0]
    for tool in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save"):
        base, _, action = tool.partition("-")
        target = f"{base}-{variant}{'-' + action if action else ''}"
        (chosen / tool).symlink_to(Path("../usr/sbin") / target)


def _iptables_works(program: Path, env: dict[str, str]) -> bool:
    command = ["unshare", "--net", str(program), "--table", "nat", "--list-rules"]
    return subprocess.run(command, capture_output=True, env=env, check=False).returncode == 0
