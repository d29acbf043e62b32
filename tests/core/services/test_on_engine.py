"""Projects on a real engine: host and container share their files, whoever runs on either side."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oubliette_core.app import App
from oubliette_core.config import Config, ContainerTypeConfig, Home, LoadedConfig
from oubliette_core.models import ExecSpec
from tests.core.services import relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine import Engine
    from tests.images import ImageMaker

ROOT = Path(__file__).parents[3]
KEPT = 0b1110_1011  # CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID by their numbers in capabilities(7)
ORDINARY = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become another user")


def loaded(docker_host: str, **images: str) -> LoadedConfig:
    """Return a configuration with these container types, on the Docker runtime."""
    containers = {name: ContainerTypeConfig(image=image) for name, image in images.items()}
    return LoadedConfig(
        config=Config(runtime="docker", runtimes={"docker": {"host": docker_host}}, containers=containers)
    )


def run(app: App, script: str) -> str:
    """Run a script in the container of project ``demo``; return what it printed."""
    result = app.containers.exec("demo", ExecSpec(command=("/bin/sh", "-c", script)))
    assert (0, b"") == (result.exit_code, result.stderr)
    return result.stdout.decode()


def share_files(app: App, workspace: Path) -> None:
    """Have each side read, change and delete what the other made."""
    run(app, "mkdir -p /workspace/inside/deep; echo from inside > /workspace/inside/deep/file; echo x > $HOME/file")
    (workspace / "outside" / "deep").mkdir(parents=True)
    (workspace / "outside" / "deep" / "file").write_text("from outside\n")

    assert "from inside\n" == (workspace / "inside" / "deep" / "file").read_text()
    assert "from outside\n" == run(app, "cat /workspace/outside/deep/file")

    (workspace / "inside" / "deep" / "file").write_text("changed outside\n")
    run(app, "echo changed inside > /workspace/outside/deep/file")

    assert "changed outside\n" == run(app, "cat /workspace/inside/deep/file")
    assert "changed inside\n" == (workspace / "outside" / "deep" / "file").read_text()

    shutil.rmtree(workspace / "inside")
    run(app, "rm -r /workspace/outside")

    assert [] == list(workspace.iterdir())


@contextlib.contextmanager
def opened(home: Home, config: LoadedConfig) -> Iterator[App]:
    """Open a home, and delete its projects in the end."""
    with App(home, config) as app:
        try:
            yield app
        finally:
            for project in app.projects.list():
                app.projects.delete(project.id)


class Ordinary:
    """An ordinary user, with a home of its own and a way to the engine.

    :ivar home: the Oubliette home. :ivar docker_host: where the engine is.
    """

    def __init__(self, directory: Path, docker_host: str) -> None:
        self.home = Home(path=directory / "home")
        self.docker_host = docker_host

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Be that user."""
        os.setegid(ORDINARY)
        os.seteuid(ORDINARY)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)


@pytest.fixture
def ordinary(engine: Engine) -> Iterator[Ordinary]:
    """An ordinary user of the engine."""
    target = engine.docker_host.removeprefix("unix://")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.chown(directory, ORDINARY, ORDINARY)
        path = directory / "engine.sock"
        argv = [sys.executable, "-m", relay.__name__, str(path), target]
        with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            user = Ordinary(directory, f"unix://{path}")
            with user():
                user.home.create()
            yield user
            process.communicate("")


def warm_up(home: Home, config: LoadedConfig) -> None:
    """Go through it all once, so that an ordinary user, who cannot read the superuser's Python, has it in memory."""
    with opened(home, config) as app:
        app.projects.create("demo")
        app.containers.start("demo")
        run(app, "true")
        app.containers.refresh("demo")


@as_root
def test_the_superuser_and_the_images_user_share_the_files(home: Home, engine: Engine, images: ImageMaker) -> None:
    """The user has a name, a home, and neither is the superuser's."""
    image = images.push(user="12345:23456").reference
    with opened(home, loaded(engine.docker_host, base=image)) as app:
        project = app.projects.create("demo")
        app.containers.start("demo")

        assert "12345 23456 oubliette /home/oubliette /workspace\n" == run(
            app, "echo $(id -u) $(id -g) $(id -un) $HOME $(pwd)"
        )
        share_files(app, project.workspace)


@as_root
def test_the_superuser_and_an_image_for_root_share_the_files(home: Home, engine: Engine, images: ImageMaker) -> None:
    """An image from scratch has no users; this one is root all the same."""
    with opened(home, loaded(engine.docker_host, base=images.push().reference)) as app:
        project = app.projects.create("demo")
        app.containers.start("demo")

        assert "0 root /home/oubliette\n" == run(app, "echo $(id -u) $(id -un) $HOME")
        share_files(app, project.workspace)


@as_root
def test_an_ordinary_user_and_its_containers_share_the_files(
    home: Home, engine: Engine, images: ImageMaker, ordinary: Ordinary
) -> None:
    """The container runs as that user, under a name, with HOME, and survives a refresh."""
    image = images.push(user="777:777").reference
    warm_up(home, loaded(engine.docker_host, base=image))
    with opened(ordinary.home, loaded(ordinary.docker_host, base=image)) as app:
        with ordinary():
            project = app.projects.create("demo")
            app.containers.start("demo")
            who = run(app, "echo $(id -u) $(id -g) $(id -un) $USER $HOME")
            share_files(app, project.workspace)
            run(app, "echo login > $HOME/login")
            app.containers.refresh("demo")
            after = run(app, "cat $HOME/login; id -un")

        assert f"{ORDINARY} {ORDINARY} oubliette oubliette /home/oubliette\n" == who
        assert "login\noubliette\n" == after


@as_root
def test_files_of_other_users_of_the_container_are_removed_with_the_project(
    home: Home, engine: Engine, images: ImageMaker, ordinary: Ordinary
) -> None:
    """An ordinary user could not: it takes a container, which is gone afterwards as well."""
    image = images.push().reference
    warm_up(home, loaded(engine.docker_host, base=image))
    with opened(ordinary.home, loaded(ordinary.docker_host, base=image)) as app:
        with ordinary():
            project = app.projects.create("demo")
            app.containers.start("demo")
        for directory in (project.workspace, project.home):
            (directory / "theirs").mkdir(mode=0o700)
            (directory / "theirs" / "file").touch()
        with ordinary():
            with pytest.raises(PermissionError):
                shutil.rmtree(project.workspace / "theirs")
            app.projects.delete("demo")

        assert [] == list(ordinary.home.projects_dir.iterdir())
        assert () == app.runtime.list_containers({"dev.oubliette.home": ordinary.home.id})


def test_the_default_hardening_is_in_force(home: Home, engine: Engine, images: ImageMaker) -> None:
    """As the kernel sees it, for the commands that are run, too."""
    with opened(home, loaded(engine.docker_host, base=images.push().reference)) as app:
        app.projects.create("demo")
        status = app.containers.start("demo")
        lines = run(app, "cat /proc/self/status; cat /proc/1/comm").splitlines()
        said = dict(line.split(":\t") for line in lines if ":\t" in line)

        assert (KEPT, "1") == (int(said["CapBnd"], 16), said["NoNewPrivs"])
        assert lines[-1] != "sh"  # an init process is in front of ours
        assert status.container is not None
        assert () == status.container.not_enforced == app.containers.unenforced()


def test_a_newer_image_under_the_same_tag_is_refreshed_to(home: Home, engine: Engine, images: ImageMaker) -> None:
    """Proven from inside; with the same image once more it is told that nothing changed."""
    first = images.push(files={"/etc/version": "1\n"})
    with opened(home, loaded(engine.docker_host, base=first.reference)) as app:
        app.projects.create("demo")
        app.containers.start("demo")
        before = run(app, "cat /etc/version")
        images.push(files={"/etc/version": "2\n"})
        changed = app.containers.refresh("demo")
        after = run(app, "cat /etc/version")
        skipped = app.containers.refresh("demo", if_changed=True)

        assert ("1\n", "2\n") == (before, after)
        assert (True, False) == (changed.image_changed, changed.skipped)
        assert (False, True) == (skipped.image_changed, skipped.skipped)
