"""What a private engine needs from the host outside its namespaces, and how that is undone.

Everything is recorded in the engine's state directory before it is made, so that it can be undone by anybody who
finds the directory: also when the process that made it was killed.
"""

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import random
import re
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.engine.packages import Programs, cache_dir

_PREFIX = "oubliette-engine-"
MOUNT_POINTS = tuple(Path(path) for path in ("/etc/docker", "/run/containerd", "/run/docker"))
"""Directories whose names are built into the engine: each engine mounts an empty one of its own over them."""
_DOCKER_BRIDGE = re.compile("br-[0-9a-f]{12}")  # how dockerd names the bridges of networks that users make
_MADE = "mount-points"  # in the cache: which of them were not there before
_CGROUPS = Path("/sys/fs/cgroup")
_RANGES = ("10.64.0.0/10", "10.128.0.0/9", "172.16.0.0/12", "198.18.0.0/15", "192.168.0.0/16")


class NoNetworkError(Exception):
    """The engine's bridge could not be made; the message says why."""


class Footprint:
    """A state directory and what belongs to it on the host: a bridge, a subnet, cgroups."""

    def __init__(self, state: Path) -> None:
        self.state = state
        # A network interface's name has 15 characters at most.
        self.bridge = f"oub{hashlib.sha256(os.fsencode(state)).hexdigest()[:10]}"
        self._record = state / "subnet"

    @property
    def pool(self) -> str:
        """The half of the subnet that the engine makes user-defined networks from."""
        return str(list(self._subnet().subnets(1))[1])

    def _subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self._record.read_text(encoding="ascii"))

    def make(self, programs: Programs) -> None:
        """Make the bridge, in a subnet that nothing here uses. Raises `NoNetworkError`."""
        ip = str(programs.find("ip"))
        with _host_lock():
            _make_mount_points()
            subnet = _unused_subnet(ip)
            self._record.write_text(str(subnet), encoding="ascii")
            _ip(ip, "link", "add", "name", self.bridge, "type", "bridge")
            _ip(ip, "addr", "add", f"{subnet[1]}/17", "dev", self.bridge)
            _ip(ip, "link", "set", "dev", self.bridge, "up")

    def remove(self, programs: Programs) -> None:
        """Undo everything, the state directory last; what is gone already is left out."""
        ip = programs.find("ip")
        if ip and self._record.exists():
            self._remove_bridges(str(ip))
        for top in (_CGROUPS / self.bridge, *_CGROUPS.glob(f"*/{self.bridge}")):
            _remove_cgroup(top)
        with _host_lock():
            shutil.rmtree(self.state, ignore_errors=True)
            if not any(Path("/sys/class/net").glob("oub*")):  # else an engine of ours is mounted on them
                _remove_mount_points()

    def _remove_bridges(self, ip: str) -> None:
        subnet = self._subnet()
        for link in json.loads(_ip(ip, "-json", "-4", "addr", "show")):
            ours = link["ifname"] == self.bridge or _DOCKER_BRIDGE.fullmatch(link["ifname"])
            addresses = (ipaddress.IPv4Address(entry["local"]) for entry in link["addr_info"])
            if ours and any(address in subnet for address in addresses):
                with contextlib.suppress(NoNetworkError):  # it is going already
                    _ip(ip, "link", "delete", "dev", link["ifname"])


def _make_mount_points() -> None:
    missing = [str(place) for place in MOUNT_POINTS if not place.exists()]
    with (cache_dir() / _MADE).open("a", encoding="utf-8") as record:
        record.writelines(f"{place}\n" for place in missing)
    for place in missing:
        Path(place).mkdir(mode=0o755)


def _remove_mount_points() -> None:
    record = cache_dir() / _MADE
    if not record.exists():
        return
    for place in record.read_text(encoding="utf-8").split():
        with contextlib.suppress(OSError):  # gone, or somebody else's by now: there is something in it
            Path(place).rmdir()
    record.unlink()


@contextlib.contextmanager
def _host_lock() -> Iterator[None]:
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "host.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _state_dirs() -> list[Path]:
    return [path for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if _is_our_directory(path)]


def _is_our_directory(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # its owner removed it meanwhile
        info = path.lstat()
        return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
    return False


def new_state_dir() -> Path:
    """Make a state directory that only we can enter."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX))


def hold(state: Path) -> int:
    """Mark a state directory as ours for as long as the descriptor lives that this gives.

    Raises `BlockingIOError` when another process holds it.
    """
    with _host_lock():  # else a sweep could come between making the file and locking it
        descriptor = os.open(state / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def discard(state: Path, programs: Programs) -> bool:
    """Remove what an engine left behind in `state` and on the host; False when it is still running."""
    if not (state / "lock").exists():
        return True  # nothing is there, or somebody is making it at this moment
    try:
        descriptor = hold(state)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # its owner removed it meanwhile
        return True
    try:
        Footprint(state).remove(programs)
    finally:
        os.close(descriptor)
    return True


def sweep(programs: Programs) -> None:
    """Remove what is left of engines whose keeper was killed before it could do so."""
    for state in _state_dirs():
        discard(state, programs)


def end_keeper(state: Path) -> None:
    """Ask the process that holds `state` to end, and return when it has."""
    with contextlib.suppress(FileNotFoundError), (state / "lock").open("r+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            end_process(int(lock.read()), signal.SIGTERM)


def end_process(pid: int, number: signal.Signals) -> None:
    """Send a process a signal that ends it, and return when it is gone; one that is gone already is left alone."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
            select.select([descriptor], [], [], 60)
        finally:
            os.close(descriptor)


def _ip(ip: str, *arguments: str) -> str:
    done = subprocess.run([ip, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _unused_subnet(ip: str) -> ipaddress.IPv4Network:
    taken = []
    for route in json.loads(_ip(ip, "-json", "-4", "route", "show", "table", "all")):
        with contextlib.suppress(ValueError):  # "default", and routes of other kinds
            taken.append(ipaddress.IPv4Network(route["dst"]))
    candidates = [part for base in _RANGES for part in ipaddress.IPv4Network(base).subnets(new_prefix=16)]
    random.shuffle(candidates)
    for candidate in candidates:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise NoNetworkError("every private IPv4 range is routed already: no subnet is free for the engine's bridge")


def _remove_cgroup(top: Path) -> None:
    if not top.is_dir():
        return
    deadline = time.monotonic() + 5
    groups = sorted((path for path in [top, *top.rglob("*")] if path.is_dir()), reverse=True)
    for group in groups:
        while group.is_dir() and time.monotonic() < deadline:
            try:
                group.rmdir()
            except OSError:  # its last process is still being reaped by the kernel
                time.sleep(0.01)
