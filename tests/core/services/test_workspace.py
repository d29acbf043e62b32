"""The directories of projects: private, shared with the container, and never a way to anything outside of them."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from oubliette_core.errors import ConflictError, ServiceError
from oubliette_core.services import workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.core.services.conftest import MakeProject

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give files away")
OTHER = 12345


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def owners(*paths: Path) -> list[int]:
    """Return whom files belong to, links themselves."""
    return [path.lstat().st_uid for path in paths]


def as_user(uid: int, *argv: str) -> int:
    """Run a program as another user; return its exit code."""
    return subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv], check=False, capture_output=True
    ).returncode


def test_directories_have_their_modes_whatever_the_umask(make_project: MakeProject) -> None:
    """Only the project's own directory keeps others out, so that a container's user can enter the workspace."""
    before = os.umask(0o077)
    try:
        project = make_project()
    finally:
        os.umask(before)

    assert [0o700, 0o755, 0o700] == [mode(path) for path in (project.home.parent, project.workspace, project.home)]


def test_preparing_again_changes_nothing(make_project: MakeProject) -> None:
    """What the user has set stays."""
    project = make_project()
    project.workspace.chmod(0o700)
    (project.workspace / "file").write_text("kept")
    workspace.prepare(project)

    assert (0o700, "kept") == (mode(project.workspace), (project.workspace / "file").read_text())


def test_a_workspace_that_is_something_else_is_refused(make_project: MakeProject, tmp_path: Path) -> None:
    """A link would be mounted as what it leads to."""
    project = make_project()
    project.workspace.rmdir()
    project.workspace.symlink_to(tmp_path)
    with pytest.raises(ConflictError, match="workspace is not a directory"):
        workspace.prepare(project)

    assert project.workspace.is_symlink()


# -- The nonce ----------------------------------------------------------------------------------------------------


def test_the_nonce_can_be_read_by_all_and_is_gone_afterwards(make_project: MakeProject) -> None:
    """Whoever the container runs as can read it; nothing is left in the user's workspace."""
    project = make_project()
    with workspace.nonce_file(project) as (name, nonce):
        path = project.workspace / name
        found = (path.read_text(), mode(path))

    assert (f"{nonce}\n", 0o644) == found
    assert [] == list(project.workspace.iterdir())


def test_a_nonce_of_a_check_that_was_killed_is_removed_by_the_next(make_project: MakeProject) -> None:
    """And nothing of the user's."""
    project = make_project()
    (project.workspace / ".oubliette-nonce-0000").write_text("old")
    (project.workspace / ".hidden").write_text("the user's")
    with workspace.nonce_file(project):
        pass

    assert [".hidden"] == [path.name for path in project.workspace.iterdir()]


def test_whatever_a_container_calls_so_does_not_keep_the_check_from_being_made(make_project: MakeProject) -> None:
    """A directory, for one, cannot be unlinked."""
    project = make_project()
    (project.workspace / ".oubliette-nonce-trap" / "x").mkdir(parents=True)
    with workspace.nonce_file(project) as (name, _):
        made = (project.workspace / name).exists()

    assert made
    assert [".oubliette-nonce-trap"] == [path.name for path in project.workspace.iterdir()]


def test_a_full_disk_is_told(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the path, and what to look at."""
    project = make_project()

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(ServiceError) as nonce, workspace.nonce_file(project):
            pass
    project.home.rmdir()
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ServiceError) as directory:
        workspace.prepare(project)

    assert f"{project.workspace} cannot be written: No space left on device" == nonce.value.message
    assert f"{project.workspace.parent} cannot be written: No space left on device" == directory.value.message


# -- Handing over -------------------------------------------------------------------------------------------------


@as_root
def test_all_is_given_to_the_containers_user_and_nothing_outside(make_project: MakeProject, tmp_path: Path) -> None:
    """Links are given away themselves, never what they lead to."""
    project = make_project()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    inside = project.workspace / "a" / "b"
    inside.mkdir(parents=True)
    (inside / "file").touch()
    (inside / "to-file").symlink_to(outside / "file")
    (inside / "to-directory").symlink_to(outside)
    (inside / "to-nothing").symlink_to("nowhere")
    os.mkfifo(inside / "pipe")
    workspace.give_to(project, OTHER, OTHER + 1)
    given = [project.workspace, project.home, *project.workspace.rglob("*")]

    assert {(OTHER, OTHER + 1)} == {(path.lstat().st_uid, path.lstat().st_gid) for path in given}
    assert 9 == len(given)
    assert [0, 0] == owners(outside, outside / "file")


@as_root
def test_what_the_superuser_makes_later_can_be_changed_and_deleted_by_the_containers_user(
    make_project: MakeProject, open_directory: Path
) -> None:
    """Host and container work on the same files, whoever made them, also in directories that are new."""
    base = open_directory / "project"
    project = attrs.evolve(make_project(), workspace=base / "workspace", home=base / "home")
    workspace.prepare(project)
    base.chmod(0o755)
    (project.workspace / "before").mkdir()
    workspace.give_to(project, OTHER, OTHER)
    workspace.share_with(project, OTHER)
    made = project.workspace / "before" / "new"
    made.mkdir()
    (made / "file").write_text("from the host")
    changed = as_user(OTHER, "sh", "-c", f"echo from inside > {made}/file")
    content = (made / "file").read_text()
    deleted = as_user(OTHER, "rm", "-r", str(made))

    assert [0, 0] == [changed, deleted]
    assert "from inside\n" == content
    assert [] == list((project.workspace / "before").iterdir())


@as_root
def test_a_tree_that_is_too_deep_is_no_way_to_break_the_handing_over(make_project: MakeProject) -> None:
    """A container can nest directories deeper than Python's stack."""
    project = make_project()
    nest(project.workspace, 1500)
    try:
        workspace.give_to(project, OTHER, OTHER)
        given = owners(project.workspace, project.workspace / "d")
    finally:
        subprocess.run(["rm", "-rf", str(project.workspace)], check=True)  # pytest could not

    assert [OTHER, OTHER] == given


def nest(path: Path, depth: int) -> None:
    """Make directories in directories."""
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


# -- Removing -----------------------------------------------------------------------------------------------------


def test_all_is_removed_also_what_cannot_be_written(make_project: MakeProject) -> None:
    """Module caches are full of directories without write permission."""
    project = make_project()
    locked = project.home / "cache" / "module"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0o555)
    locked.parent.chmod(0o000)

    assert workspace.remove(project, keep_workspace=False)
    assert not project.home.parent.exists()


def test_the_workspace_can_be_kept(make_project: MakeProject) -> None:
    """The home, with its logins and caches, goes."""
    project = make_project()
    (project.workspace / "file").write_text("kept")

    assert workspace.remove(project, keep_workspace=True)
    assert ["workspace"] == [path.name for path in project.home.parent.iterdir()]
    assert "kept" == (project.workspace / "file").read_text()


@pytest.mark.parametrize("keep", [True, False])
def test_a_project_directory_that_is_a_link_is_unlinked(make_project: MakeProject, tmp_path: Path, keep: bool) -> None:
    """What it leads to may be the user's own directory."""
    project = make_project()
    precious = tmp_path / "precious"
    project.home.parent.rename(precious)
    project.home.parent.symlink_to(precious)
    (precious / "home" / "file").write_text("kept")

    assert workspace.remove(project, keep_workspace=keep)
    assert not os.path.lexists(project.home.parent)
    assert "kept" == (precious / "home" / "file").read_text()


def test_links_inside_are_not_followed(make_project: MakeProject, tmp_path: Path) -> None:
    """Neither in the workspace nor in place of it."""
    project = make_project()
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o500)
    (project.workspace / "link").symlink_to(precious)
    project.home.rmdir()
    project.home.symlink_to(precious)

    assert workspace.remove(project, keep_workspace=False)
    assert 0o500 == mode(precious)
