"""Trees of any form can be removed, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oubliette_embedded.images import remove_tree
from oubliette_embedded.images._failures import Failure
from oubliette_embedded.images._tree import make_opaque
from tests.embedded.images.conftest import USER, Unpacking


def deep(root: Path, depth: int) -> None:
    """Make directories in directories, deeper than a path may be long."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=here)
        inner = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    """Containers make them; with a path for each, or an open directory for each, they could not be."""
    (tmp_path / "tree").mkdir()
    deep(tmp_path / "tree", 3000)
    (tmp_path / "beside").write_text("stays")
    remove_tree(tmp_path / "tree")

    assert ["beside"] == [path.name for path in tmp_path.iterdir()]


def test_closed_directories_are_removed(unpacking: Unpacking) -> None:
    """Overlayfs leaves one of mode 0 in every work directory, and containers make others."""
    tree = unpacking.folder / "tree"
    for name in ("a/b", "c", "d"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text("x")
    for name, mode in (("a/b", 0), ("a", 0o500), ("c", 0o300), ("d", 0o444)):
        (tree / name).chmod(mode)
    if not unpacking.is_self:
        for path in (tree, *tree.rglob("*")):
            os.chown(path, USER, USER)
    unpacking.order(what="remove", path=str(tree))

    assert not tree.exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    """Whatever they lead to stays, also if the tree itself is one."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("stays")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "link")

    assert ["precious"] == [path.name for path in tmp_path.iterdir()]
    assert "stays" == (tmp_path / "precious/file").read_text()


def test_what_is_not_there_need_not_be_removed(tmp_path: Path) -> None:
    """Another process may have been faster."""
    remove_tree(tmp_path / "absent")
    remove_tree(tmp_path / "absent/absent")


def test_a_file_system_without_attributes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them nothing is opaque, and images would show what they hide."""

    def refuse(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    root = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(Failure, match="attributes") as failed:
        make_opaque(root)
    os.close(root)

    assert "XDG_DATA_HOME" in failed.value.hint
