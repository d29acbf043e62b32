"""Projects: made whole or not at all, found without doubt, and deleted without a trace and without harm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import (
    ActiveSessionsError,
    ConflictError,
    InvalidValueError,
    OublietteError,
    ProjectNotFoundError,
    RuntimeUnavailableError,
    ServiceError,
    UnknownContainerTypeError,
)
from oubliette_core.services import projects as projects_module
from oubliette_core.services import workspace
from oubliette_core.services.owners import Owner
from oubliette_core.services.records import SessionKind
from tests.core.services.steps import Steps

if TYPE_CHECKING:
    from pathlib import Path

    from oubliette_core.services.records import Project
    from tests.core.services.conftest import Bench, MakeProject


def entries(bench: Bench) -> list[str]:
    """Return what is in the directory of projects."""
    return sorted(path.name for path in bench.home.projects_dir.iterdir())


# -- Making -------------------------------------------------------------------------------------------------------


def test_a_project_has_an_id_a_type_and_its_directories(bench: Bench) -> None:
    """The first type of the configuration is the default one."""
    project = bench.app.projects.create("web")

    assert re.fullmatch(r"proj_[a-z2-7]{12}", project.id)
    assert ("web", "base", "", 0) == (project.name, project.container_type, project.repository, project.generation)
    assert project.workspace.is_dir()
    assert project.home.is_dir()
    assert project == bench.app.projects.get(project.id)
    assert [project.id] == entries(bench)


def test_making_a_project_needs_no_runtime(bench: Bench) -> None:
    """Nor does listing or finding one."""
    bench.engine.go_away()
    bench.app.projects.create("web")

    assert ["web"] == [project.name for project in bench.app.projects.list()]
    assert {} == dict(bench.engine.calls)


def test_an_unknown_type_is_refused_with_those_that_there_are(bench: Bench) -> None:
    """And the nearest one as a hint; the name of an attribute is no type either."""
    with pytest.raises(UnknownContainerTypeError) as caught:
        bench.app.projects.create("web", container_type="bsae")
    with pytest.raises(UnknownContainerTypeError):
        bench.app.projects.create("web", container_type="__class__")

    assert ("base", "dev") == caught.value.valid_types
    assert "Did you mean base?" == caught.value.hint
    assert [] == entries(bench)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "-a", "a b", "a\n", "a\x1b[0m", "x" * 64, "proj_abc", "PROJ_x", "é", None, 5]
)
def test_names_are_safe_everywhere(bench: Bench, name: object) -> None:
    """On a command line, in a path, in a list, and never mistaken for an id."""
    with pytest.raises(InvalidValueError, match=r"cannot be a project's name"):
        bench.app.projects.create(name)  # type: ignore[arg-type]

    assert [] == entries(bench)


@pytest.mark.parametrize("name", ["web", "WEB", "Web"])
def test_a_name_is_taken_in_any_letter_case(bench: Bench, name: str) -> None:
    """Two that differ in nothing else are one to a person, and to some file systems."""
    bench.app.projects.create("web")
    with pytest.raises(ConflictError, match="already"):
        bench.app.projects.create(name)

    assert 1 == len(entries(bench))


def test_of_many_that_take_one_name_at_once_one_wins(bench: Bench) -> None:
    """The others leave nothing behind."""
    errors: list[OublietteError] = []

    def create() -> None:
        try:
            bench.app.projects.create("web")
        except ConflictError as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 7 == len(errors)
    assert [project.id for project in bench.app.projects.list()] == entries(bench)


def test_a_clone_that_fails_leaves_nothing(bench: Bench) -> None:
    """No directory, no record, no lock."""
    locks = set(bench.home.locks_dir.iterdir())
    with pytest.raises(ServiceError):
        bench.app.projects.create("web", repository="https://127.0.0.1:1/nothing.git")
    with pytest.raises(InvalidValueError):
        bench.app.projects.create("web", repository="file:///etc")

    assert [] == entries(bench)
    assert () == bench.app.projects.list()
    assert set() == {path.name for path in set(bench.home.locks_dir.iterdir()) - locks} - {"store.lock"}


def test_the_repository_is_cloned_into_the_workspace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And remembered."""

    def clone(url: str, directory: Path, **_options: object) -> None:
        (directory / "README").write_text(url)

    monkeypatch.setattr(projects_module, "clone", clone)
    project = bench.app.projects.create("web", repository="https://example.com/r.git")

    assert "https://example.com/r.git" == project.repository == (project.workspace / "README").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
from oubliette_core.app import App
from oubliette_core.config import Home, LoadedConfig
from oubliette_core.services import projects

def clone(url, directory, **options):
    (directory / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)

projects.clone = clone
App(Home(path=Path(sys.argv[1])), LoadedConfig()).projects.create("web", repository="https://example.com/r.git")
"""


def test_a_creation_that_is_killed_is_swept_up_by_the_next(bench: Bench) -> None:
    """What is half made is no project, and does not stay for ever; one that is under way is left alone."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(bench.home.path)], check=False)
    half = entries(bench)
    (under_way := bench.home.projects_dir / ".new-proj_aaaaaaaaaaaa").mkdir()
    with bench.app._locks.hold("proj_aaaaaaaaaaaa"):
        project = bench.app.projects.create("web")

    assert -signal.SIGKILL == killed.returncode
    assert [True] == [name.startswith(".new-proj_") for name in half]
    assert [under_way.name, project.id] == entries(bench)


# -- Finding ------------------------------------------------------------------------------------------------------


def test_a_prefix_that_fits_several_is_an_error_that_lists_them(make_project: MakeProject, bench: Bench) -> None:
    """A guess could delete the wrong one."""
    make_project("one", project_id="proj_aaaaaaaaaaaa")
    make_project("two", project_id="proj_aaaabbbbbbbb")
    with pytest.raises(ConflictError) as caught:
        bench.app.projects.get("proj_aaaa")
    found = bench.app.projects.get("proj_aaaab").name

    assert "proj_aaaaaaaaaaaa (one), proj_aaaabbbbbbbb (two)" in caught.value.message
    assert "two" == found


def test_an_id_wins_over_the_prefix_of_another(make_project: MakeProject, bench: Bench) -> None:
    """Also two whose first eight characters are alike are two."""
    ids = ["proj_aaaaaaaaaaaa", "proj_aaaaaaaaaaab"]
    for number, project_id in enumerate(ids):
        make_project(f"p{number}", project_id=project_id)

    assert ids == [bench.app.projects.get(project_id).id for project_id in ids]


@pytest.mark.parametrize("reference", ["../volumes/x", "..%2f", ".", "", "--help", "-v/:/h", "x" * 300, "a b", None, 3])
def test_what_cannot_be_a_project_is_refused(bench: Bench, reference: object) -> None:
    """Before anything is looked up."""
    with pytest.raises(InvalidValueError, match="is not a project's id or name"):
        bench.app.containers.get(reference)  # type: ignore[arg-type]

    assert {} == dict(bench.engine.calls)


@pytest.mark.parametrize("reference", ["nowhere", "proj_zzzz", "p", "proj"])
def test_what_is_not_there_is_not_found(bench: Bench, reference: str) -> None:
    """A prefix is one of the id, and never one of a name."""
    bench.app.projects.create("pretty")
    with pytest.raises(ProjectNotFoundError) as caught:
        bench.app.projects.get(reference)

    assert "oubliette project list" in caught.value.hint


# -- Deleting -----------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_deleted_project(bench: Bench) -> None:
    """Container, directories, record, lock."""
    project = bench.start().project
    bench.run("demo", "mkdir -p /workspace/a/b; touch /workspace/a/b/c $HOME/d")
    kept = bench.app.projects.delete("demo")

    assert kept is None
    assert [] == bench.engine.containers()
    assert [] == entries(bench)
    assert () == bench.app.projects.list()
    assert [] == list(bench.home.locks_dir.glob(f"{project.id}*"))


def test_the_workspace_can_be_kept(bench: Bench) -> None:
    """The user is told where it is."""
    bench.start()
    bench.run("demo", "echo mine > /workspace/file; echo login > $HOME/login")
    kept = bench.app.projects.delete("demo", keep_workspace=True)

    assert kept is not None
    assert ["file"] == [path.name for path in kept.iterdir()]
    assert ["workspace"] == [path.name for path in kept.parent.iterdir()]
    assert () == bench.app.projects.list()


def test_a_project_that_never_had_a_container_is_deleted_without_a_runtime(bench: Bench) -> None:
    """There is nothing to ask it for."""
    bench.app.projects.create("web")
    bench.engine.go_away()
    bench.app.projects.delete("web")

    assert [] == entries(bench)


def test_while_the_engine_is_gone_nothing_is_deleted(bench: Bench) -> None:
    """A container whose files are gone would be worse; later it works."""
    bench.start()
    bench.engine.go_away()
    with pytest.raises(RuntimeUnavailableError):
        bench.app.projects.delete("demo")
    bench.engine.come_back()
    printed = bench.run("demo", "echo works")
    bench.app.projects.delete("demo")

    assert "works\n" == printed
    assert [] == entries(bench)


def test_an_active_session_forbids_it(bench: Bench) -> None:
    """Nothing was touched."""
    project = bench.start().project
    with Owner(bench.home.locks_dir) as owner:
        session = bench.app.sessions.begin(project, owner, kind=SessionKind.AGENT)
        with pytest.raises(ActiveSessionsError) as caught:
            bench.app.projects.delete("demo")

    assert (session.id,) == caught.value.sessions
    assert "running" == bench.app.containers.get("demo").state


@pytest.mark.parametrize("step", ["before list_containers", "before remove", "after remove"])
def test_a_deletion_that_is_interrupted_is_finished_by_the_same_command(bench: Bench, step: str) -> None:
    """Until its files are touched the project is a project; the container can be made again."""
    bench.start()
    bench.run("demo", "echo x > /workspace/x")

    def on_step(_number: int, name: str) -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.open(wrapper=Steps(on_step)).projects.delete("demo")
    bench.app.containers.start("demo")
    kept = bench.run("demo", "cat /workspace/x")
    bench.app.projects.delete("demo")

    assert "x\n" == kept
    assert [] == entries(bench)
    assert [] == bench.engine.containers()


def test_once_its_files_are_touched_a_project_can_only_be_deleted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a workspace must not be taken for a whole one."""
    project = bench.start().project

    def killed(_project: Project, **_options: object) -> bool:
        (project.workspace / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workspace, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.app.projects.delete("demo")
    for operation in (bench.app.containers.start, bench.app.containers.refresh, bench.app.containers.stop):
        with pytest.raises(ConflictError, match="is being deleted") as caught:
            operation("demo")
    listed = [(status.project.name, status.project.deleting) for status in bench.app.containers.list()]
    bench.app.projects.delete("demo")

    assert "oubliette project delete demo" in caught.value.hint
    assert [("demo", True)] == listed
    assert [] == entries(bench)


def test_a_project_directory_that_is_a_link_is_only_unlinked(bench: Bench, tmp_path: Path) -> None:
    """What it leads to may be the user's own home."""
    project = bench.app.projects.create("web")
    precious = tmp_path / "precious"
    project.home.parent.rename(precious)
    project.home.parent.symlink_to(precious)
    bench.app.projects.delete("web")

    assert ["home", "workspace"] == sorted(path.name for path in precious.iterdir())
    assert [] == entries(bench)


def test_files_that_this_user_cannot_remove_are_removed_by_a_container(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What users of the container made may belong to ids that are not ours outside of it."""
    bench.start()
    bench.run("demo", "touch /workspace/theirs $HOME/theirs")
    removed = workspace.remove
    calls: list[str] = []

    def as_another_user(project: Project, *, keep_workspace: bool) -> bool:
        """Refuse, as the kernel would, for as long as there are foreign files."""
        calls.append("remove")
        if any(project.home.glob("*")) or any(project.workspace.glob("*")):
            return False
        return removed(project, keep_workspace=keep_workspace)

    monkeypatch.setattr(workspace, "remove", as_another_user)
    bench.app.projects.delete("demo")

    assert ["remove", "remove"] == calls
    assert [] == entries(bench)
    assert [] == bench.engine.containers()


def test_files_that_nobody_can_remove_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type; the project is there until they are gone."""
    project = bench.start().project
    bench.engine.programs["rm"] = lambda _task: 1
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "remove", lambda *_, **__: False)
        with pytest.raises(ConflictError) as caught:
            bench.app.projects.delete("demo")
    bench.app.projects.delete("demo")

    assert f"sudo rm -rf {project.home.parent}" in caught.value.hint
    assert [] == bench.engine.containers()
    assert [] == entries(bench)


def test_the_umask_makes_no_directory_public(bench: Bench) -> None:
    """A project's directory is its owner's alone."""
    before = os.umask(0)
    try:
        project = bench.app.projects.create("web")
    finally:
        os.umask(before)

    assert 0o700 == project.home.parent.stat().st_mode & 0o777
