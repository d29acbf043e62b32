"""Machines for the pages whose commands are run: as fresh as a reader's, with what is released where it is released.

Each has an engine of its own, whose way to the registry ends in this process, so that the very references of the pages
can be pulled. The shipped images are stand-ins there (``nox -s images`` builds the real ones); the distributions are
wheels of this checkout, which pip finds beside the index.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from oubliette_core.testing.images import File, Image, busybox_image, find_busybox
from oubliette_core.testing.registry import FaultRegistry
from tests.apple.installed import installed
from tests.engine import Engine, private_engine

APT = """\
#!/bin/sh
# Installs nothing but programs that say their names.
for word; do case $word in -* | install | update) ;; *) printf '#!/bin/sh\\necho %s\\n' "$word" >"/bin/$word"
chmod 755 "/bin/$word" ;; esac; done
"""
_REGISTRIES = ("--insecure-registry=ghcr.io", "--insecure-registry=registry.example.com")
_USERS = "root:x:0:0:root:/root:/bin/sh\ngogol:x:1000:1000::/home/gogol:/bin/sh\n"


@attrs.frozen(kw_only=True)
class Machine:
    """A machine. :param folder: its user's home. :param environ: what programs are run with."""

    engine: Engine
    registry: FaultRegistry
    folder: Path
    environ: dict[str, str]


def shipped(busybox: Path, name: str, version: str = "1") -> Image:
    """Make what stands in for a shipped image."""
    place = File(mode=0o755, uid=1000, gid=1000)
    return busybox_image(
        busybox,
        files={
            "/etc/passwd": _USERS,
            "/etc/group": "root:x:0:\ngogol:x:1000:\n",
            "/home/gogol": place,
            "/workspace": place,
            "/bin/apt-get": File(content=APT.encode(), mode=0o755),
            "/etc/shipped": f"{name} {version}\n",
        },
        user="gogol",
        workdir="/workspace",
    )


@contextlib.contextmanager
def linux(folder: Path) -> Iterator[Machine]:
    """Give a Linux machine with Docker. Raises `EngineUnavailableError`."""
    with FaultRegistry() as registry, _way_to(registry), private_engine(_REGISTRIES) as engine:
        busybox = find_busybox(engine.busybox)
        for name in ("base", "dev"):
            registry.add(shipped(busybox, name), f"hyphagroup/oubliette-{name}")
        assert engine.docker_cli
        oubliette = Path(sys.executable).with_name("oubliette")
        programs = _programs(folder, docker=engine.docker_cli, oubliette=oubliette)
        environ = _environment(folder, programs) | {"DOCKER_HOST": engine.docker_host}
        try:
            yield Machine(engine=engine, registry=registry, folder=folder, environ=environ)
        finally:  # a page that failed half-way may have left a server behind
            subprocess.run([programs / "oubliette", "serve", "stop"], env=environ, capture_output=True, check=False)


@contextlib.contextmanager
def mac(folder: Path) -> Iterator[Machine]:
    """Give a Mac on which Apple's `container` is the emulated one, and can be had from Homebrew."""
    with linux(folder) as machine, installed(folder / "mac", machine.engine.docker_host) as emulator:
        emulator.configure(hosts={"ghcr.io": machine.registry.address})
        emulator.service(up=False)
        programs = _programs(folder)
        brew = programs / "brew"
        brew.write_text(f"#!/bin/sh\nln -sf {emulator.command} {programs}/container\n", encoding="utf-8")
        brew.chmod(0o755)
        environ = {name: value for name, value in machine.environ.items() if name != "DOCKER_HOST"}
        yield attrs.evolve(machine, environ={**environ, "PATH": f"{programs}{os.pathsep}{os.defpath}"})


@contextlib.contextmanager
def _way_to(registry: FaultRegistry) -> Iterator[None]:
    """Have an engine that is started in this block reach a registry under any name."""
    own = {"HTTP_PROXY": registry.url, "HTTPS_PROXY": registry.url, "NO_PROXY": "localhost,127.0.0.1"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _programs(folder: Path, **programs: Path) -> Path:
    """Make a directory of programs, with Python among them."""
    place = folder / ".programs"
    place.mkdir(exist_ok=True)
    for name, program in {"python3": Path(sys.executable), **programs}.items():
        # By its own name: an interpreter that is called by a link does not find its environment.
        (place / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n', encoding="utf-8")
        (place / name).chmod(0o755)
    return place


def _environment(folder: Path, programs: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG", "LC_"))}
    return {
        **kept,
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
        # Some of this may be built into the docker command, which is the machine's own.
        "DOCKER_BUILDKIT": "0",
        "DOCKER_CONFIG": f"{folder}/.docker",
        "OUBLIETTE_SERVER_PORT": "0",
    }
