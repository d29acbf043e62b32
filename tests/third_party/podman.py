"""Podman for tests: fetched once, installed nowhere, with its storage in a directory of its own.

`podman_command` gives a command ``podman`` that works on machines where Podman as installed does not: with runc in the
place of a crun that refuses mixed control groups, with limits of resources no higher than this user may set, and with
registries of this machine spoken to without TLS.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.engine.packages import PackagesUnavailableError, apt_is_here, unpacked

__all__ = ["PodmanUnavailableError", "podman_command", "podman_service"]

_PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "catatonit", "busybox-static", "iptables", "iproute2")

_CONTAINERS_CONF = """\
[containers]
init_path = "{init}"
seccomp_profile = "{seccomp}"
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{conmon}"]
helper_binaries_dir = ["{root}/usr/lib/podman", "/usr/lib/podman"]
[engine.runtimes]
runc = ["{folder}/bin/runc"]
[network]
network_config_dir = "{folder}/networks"
default_subnet = "10.{subnet}.0/24"
"""

_REGISTRIES_CONF = """\
[[registry]]
prefix = "127.0.0.1"
location = "127.0.0.1"
insecure = true
"""

# Podman asks for more open files than root may have where CAP_SYS_RESOURCE is missing, and runc then refuses to run.
_RUNC = """\
#!/bin/sh
bundle= process= previous=
for word; do
    case $previous in --bundle | -b) bundle=$word ;; --process | -p) process=$word ;; esac
    previous=$word
done
for file in ${{bundle:+"$bundle/config.json"}} ${{process:+"$process"}}; do
    sed -i 's/"rlimits":\\[[^]]*\\]/"rlimits":[]/' "$file"
done
exec {runc} "$@"
"""

_PODMAN = """\
#!/bin/sh
{exports}
exec {podman} --root {folder}/storage --runroot {folder}/run --tmpdir {folder}/tmp \\
    --storage-driver overlay "$@"
"""

# What clients of Docker ask for an init process is taken from one place only, whatever the settings say.
_SERVICE = """\
mount -t overlay -o "lowerdir=$1:/usr/libexec" none /usr/libexec && exec "$2" system service --time=0 "$3"
"""


class PodmanUnavailableError(Exception):
    """There is no Podman for tests here; the message says why."""


@contextlib.contextmanager
def podman_command(folder: Path) -> Iterator[Path]:
    """Give the command ``podman``, in a directory of its own; at the end remove all that it kept.

    :param folder: a short path, since sockets are made below it.
    """
    if os.geteuid() != 0 or not apt_is_here():
        raise PodmanUnavailableError("Podman for tests is fetched with apt, and runs as root")
    try:
        programs = unpacked(_PACKAGES)
    except PackagesUnavailableError as error:
        raise PodmanUnavailableError(str(error)) from error
    assert programs.root is not None
    command = _configure(folder, programs.root, programs.environment())
    try:
        yield command
    finally:
        _remove(folder, command)


@contextlib.contextmanager
def podman_service(command: Path, folder: Path) -> Iterator[str]:
    """Let Podman serve clients of Docker; give the address, as in ``DOCKER_HOST``.

    :param folder: a short path, for the socket.
    """
    socket = folder / "podman.sock"
    log = folder / "service.log"
    helpers = folder / "libexec"
    (helpers / "podman").mkdir(parents=True)
    shutil.copy(_part(unpacked(_PACKAGES).root, "usr/bin/catatonit"), helpers / "podman")
    with log.open("wb") as written:
        service = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _SERVICE, "sh", helpers, command, f"unix://{socket}"],
            stdout=written,
            stderr=written,
            cwd=folder,  # where a file "oom" is left when a container runs out of memory
        )
    try:
        deadline = time.monotonic() + 30
        while not socket.exists():
            if service.poll() is not None or time.monotonic() > deadline:
                raise PodmanUnavailableError(f"Podman's service did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield f"unix://{socket}"
    finally:
        service.terminate()
        service.wait(30)


def _configure(folder: Path, root: Path, environment: dict[str, str]) -> Path:
    """Write the settings and the two commands."""
    for part in ("bin", "networks", "tmp", "home/.config/containers"):
        (folder / part).mkdir(parents=True)
    # Podmans beside each other know nothing of each other's addresses.
    subnet = f"{90 + secrets.randbelow(100)}.{secrets.randbelow(256)}"
    settings = _CONTAINERS_CONF.format(
        root=root,
        folder=folder,
        subnet=subnet,
        init=_part(root, "usr/bin/catatonit"),
        seccomp=_part(root, "usr/share/containers/seccomp.json"),
        conmon=_part(root, "usr/bin/conmon"),
    )
    (folder / "containers.conf").write_text(settings)
    (folder / "registries.conf").write_text(_REGISTRIES_CONF)
    shutil.copy(_part(root, "etc/containers/policy.json"), folder / "home/.config/containers/policy.json")
    variables = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "HOME": str(folder / "home"),
    }
    variables |= {
        name: environment[name] for name in ("PATH", "LD_LIBRARY_PATH", "XTABLES_LIBDIR") if name in environment
    }
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    _script(folder / "bin/runc", _RUNC.format(runc=shlex.quote(str(_part(root, "usr/sbin/runc", "usr/bin/runc")))))
    podman = shlex.quote(str(_part(root, "usr/bin/podman")))
    return _script(
        folder / "bin/podman", _PODMAN.format(exports=exports, podman=podman, folder=shlex.quote(str(folder)))
    )


def _part(root: Path | None, *places: str) -> Path:
    """Find a file of the packages: what is installed on this system was not unpacked."""
    candidates = [tree / place for tree in (root, Path("/")) if tree for place in places]
    return next((path for path in candidates if path.exists()), candidates[0])


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _remove(folder: Path, command: Path) -> None:
    """Remove containers and images; only then can their mounts, and the directory, be removed."""
    for words in (("rm", "--all", "--force", "--time", "0"), ("system", "reset", "--force")):
        subprocess.run([command, *words], capture_output=True, timeout=60, check=False)
    shutil.rmtree(folder, ignore_errors=True)
