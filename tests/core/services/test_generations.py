"""Making the next container: whoever runs in it, host and container share the files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs
import pytest

from oubliette_core.config import Config, ContainerTypeConfig, LoadedConfig
from oubliette_core.errors import StartFailedError
from oubliette_core.models import Capability
from oubliette_core.services import generations, workspace
from oubliette_core.services.inside import View
from tests.core.services.conftest import DEV

if TYPE_CHECKING:
    from oubliette_core.app import App
    from oubliette_core.services.records import Project
    from tests.core.services.conftest import Bench

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give files away")


def on_image(bench: Bench, *, user: str, command: tuple[str, ...] = ("idle",)) -> App:
    """Return an app whose type ``dev`` has an image for this user."""
    bench.engine.add_image(DEV, f"for {user}", user=user, files={"/etc/passwd": b"app:x:1234:4321::/:/bin/sh\n"})
    return bench.open(LoadedConfig(config=Config(containers={"dev": ContainerTypeConfig(image=DEV, command=command)})))


def owners(project: Project) -> set[tuple[int, int]]:
    """Return whom the project's directories belong to."""
    return {(path.stat().st_uid, path.stat().st_gid) for path in (project.workspace, project.home)}


@as_root
def test_the_superusers_workspace_is_handed_to_the_images_user(bench: Bench) -> None:
    """With all that is in it, so that the user of the image can work."""
    app = on_image(bench, user="app")
    project = app.projects.create("demo")
    (project.workspace / "file").touch()
    app.containers.start("demo")

    assert {(1234, 4321)} == owners(project)
    assert 1234 == (project.workspace / "file").stat().st_uid
    assert [None] == [each.spec.user for each in bench.engine.containers()]


@as_root
def test_an_image_for_root_needs_no_handing_over(bench: Bench) -> None:
    """Both sides are the superuser."""
    app = on_image(bench, user="")
    project = app.projects.create("demo")
    app.containers.start("demo")

    assert {(0, 0)} == owners(project)


@as_root
def test_a_command_of_the_image_finds_its_home_writable_from_the_start(bench: Bench) -> None:
    """It may write before we could have looked, so a container that does nothing is asked first, and removed."""
    script = "echo $(id -u) > $HOME/started || exit 9; sleep 1000"
    app = on_image(bench, user="app", command=("/bin/sh", "-c", script))
    bench.engine.calls.clear()
    project = app.projects.create("demo")
    app.containers.start("demo")

    assert "1234\n" == (project.home / "started").read_text()
    assert 1 == len(bench.engine.containers())
    assert {"create": 2, "start": 2} == {hook: bench.engine.calls[hook] for hook in ("create", "start")}


@as_root
def test_the_container_that_is_asked_is_removed_when_that_fails(bench: Bench) -> None:
    """Nothing is left of the attempt."""
    app = on_image(bench, user="app", command=("/bin/sh", "-c", "sleep 1000"))
    app.projects.create("demo")
    bench.engine.faults.add("exec", error=StartFailedError("no"))
    with pytest.raises(StartFailedError):
        app.containers.start("demo")

    assert [] == bench.engine.containers()
    assert "" == app.projects.get("demo").pending


@attrs.frozen(kw_only=True)
class Sharing:
    """Who is on both sides, and what is to be done.

    :param uid: of this process. :param inside: uid and gid of the container's user, as this machine counts.
    :param given: whom the files are given to. :param shared: whom access is shared with.
    """

    uid: int
    rootless: bool = False
    inside: tuple[int | None, int | None]
    given: tuple[int, int] | None = None
    shared: int | None = None


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Sharing(uid=0, inside=(1234, 4321), given=(1234, 4321), shared=1234), id="root"),
        pytest.param(Sharing(uid=0, inside=(100000, 100001), given=(100000, 100001), shared=100000), id="remapped"),
        pytest.param(Sharing(uid=0, inside=(0, 0)), id="root as root"),
        pytest.param(Sharing(uid=0, inside=(None, None)), id="root as somebody unknown"),
        pytest.param(Sharing(uid=1000, inside=(1000, 1000)), id="user"),
        pytest.param(Sharing(uid=1000, rootless=True, inside=(1000, 1000), shared=1000), id="rootless"),
    ],
)
def test_who_gets_what(bench: Bench, monkeypatch: pytest.MonkeyPatch, case: Sharing) -> None:
    """Files are given by the superuser only, as this machine counts; where ids are mapped, access is shared."""
    done: list[object] = []
    monkeypatch.setattr(workspace, "give_to", lambda _, uid, gid: done.append((uid, gid)))
    monkeypatch.setattr(workspace, "share_with", lambda _, uid: done.append(uid))
    if case.rootless:
        bench.engine.capabilities |= {Capability.ROOTLESS}
    project = bench.app.projects.create("demo")
    policy = attrs.evolve(bench.app._policy(), uid=case.uid)
    maker = generations.Generations(bench.app.runtime, bench.app._records, policy)
    uid, gid = case.inside
    maker._share(project, View(nonce="", uid=1, gid=1, outside_uid=uid, outside_gid=gid, users=(), groups=()))

    assert [each for each in (case.given, case.shared) if each is not None] == done


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give directories away")
def test_an_ordinary_user_runs_containers_as_itself_under_a_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it makes inside belongs to the same user outside."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getegid", lambda: 4243)
    app = bench.open()
    project = app.projects.create("demo")
    for directory in (project.workspace, project.home):
        os.chown(directory, 4242, 4243)
    app.containers.start("demo")
    printed = bench.run(
        "demo", "id -un; id -u; id -g; echo $USER $LOGNAME $HOME; touch $HOME/x /workspace/x && echo done"
    )

    assert "oubliette\n4242\n4243\noubliette oubliette /home/oubliette\ndone\n" == printed
