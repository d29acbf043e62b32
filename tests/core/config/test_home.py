"""The home is found where it is trusted, and everything in it is its owner's alone."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.config import Home, find_home, make_private_dir, write_private_file
from oubliette_core.errors import ConfigError

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Make an environment whose HOME is a directory of the test's."""
    (tmp_path / "user").mkdir()
    return {"HOME": str(tmp_path / "user")}


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """Make a working directory."""
    (tmp_path / "cwd").mkdir()
    return tmp_path / "cwd"


@pytest.fixture
def local(cwd: Path) -> Path:
    """Make a trustworthy home in the working directory."""
    (cwd / ".oubliette").mkdir(mode=0o700)
    return cwd / ".oubliette"


# -- Finding ----------------------------------------------------------------------------------------------------------


def test_the_order_in_which_homes_are_found(tmp_path: Path, environ: dict[str, str], cwd: Path, local: Path) -> None:
    """``--dir`` > ``OUBLIETTE_HOME`` > ``./.oubliette`` > ``~/.oubliette``."""
    both = environ | {"OUBLIETTE_HOME": str(tmp_path / "env")}

    assert Home(path=tmp_path / "dir") == find_home(tmp_path / "dir", environ=both, cwd=cwd)
    assert Home(path=tmp_path / "env", found_by="OUBLIETTE_HOME") == find_home(environ=both, cwd=cwd)
    assert Home(path=local, found_by="./.oubliette") == find_home(environ=environ, cwd=cwd)
    local.rmdir()
    assert Home(path=tmp_path / "user/.oubliette", found_by="~/.oubliette") == find_home(environ=environ, cwd=cwd)


def test_an_empty_variable_counts_as_not_set(environ: dict[str, str], cwd: Path) -> None:
    """As everywhere on Unix."""
    assert "~/.oubliette" == find_home(environ=environ | {"OUBLIETTE_HOME": ""}, cwd=cwd).found_by


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o701])
def test_a_local_home_that_is_open_to_others_is_passed_over(
    environ: dict[str, str], cwd: Path, local: Path, mode: int
) -> None:
    """Git makes directories with the umask's mode, so a home that came with a repository is not private."""
    local.chmod(mode)
    home = find_home(environ=environ, cwd=cwd)

    assert "~/.oubliette" == home.found_by
    assert f"{local} is passed over: its mode is {mode:04o}, not 0700" == home.note


def test_a_local_home_that_is_a_link_is_passed_over(environ: dict[str, str], cwd: Path, tmp_path: Path) -> None:
    """A repository can bring a link to anywhere."""
    (tmp_path / "real").mkdir(mode=0o700)
    (cwd / ".oubliette").symlink_to(tmp_path / "real")
    home = find_home(environ=environ, cwd=cwd)

    assert ("~/.oubliette", f"{cwd}/.oubliette is passed over: it is a symbolic link") == (home.found_by, home.note)


def test_a_file_is_no_local_home(environ: dict[str, str], cwd: Path) -> None:
    """A file of that name is none of ours."""
    (cwd / ".oubliette").write_text("")

    assert "it is not a directory" in find_home(environ=environ, cwd=cwd).note


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
def test_a_local_home_of_somebody_else_is_passed_over(environ: dict[str, str], cwd: Path, local: Path) -> None:
    """In a shared directory anybody can put one."""
    os.chown(local, 4242, -1)

    assert "it belongs to uid 4242" in find_home(environ=environ, cwd=cwd).note


def test_in_the_users_own_directory_there_is_nothing_to_note(environ: dict[str, str]) -> None:
    """There ``./.oubliette`` is ``~/.oubliette``."""
    user = Path(environ["HOME"])
    (user / ".oubliette").mkdir(mode=0o755)

    assert Home(path=user / ".oubliette", found_by="~/.oubliette") == find_home(environ=environ, cwd=user)


def test_names_are_resolved(environ: dict[str, str], cwd: Path, tmp_path: Path) -> None:
    """Containers mount directories of the home, so its path is absolute and without links."""
    (tmp_path / "link").symlink_to(cwd)

    assert cwd / "x" == find_home("x", environ=environ, cwd=cwd).path
    assert cwd / "x" == find_home("../cwd/./x", environ=environ, cwd=cwd).path
    assert cwd / "x" == find_home(tmp_path / "link/x", environ=environ, cwd=cwd).path
    assert tmp_path / "user/x" == find_home("~/x", environ=environ, cwd=cwd).path
    assert tmp_path / "user" == find_home(environ=environ | {"OUBLIETTE_HOME": "~"}, cwd=cwd).path


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "a\x9bb", "\udc80"])
def test_a_name_that_no_directory_should_have_is_refused(environ: dict[str, str], cwd: Path, name: str) -> None:
    """It would be part of mounts and messages."""
    with pytest.raises(ConfigError, match="--dir does not name a directory"):
        find_home(name, environ=environ, cwd=cwd)


def test_without_home_the_user_entry_is_asked(cwd: Path) -> None:
    """Services run without HOME."""
    assert ".oubliette" == find_home(environ={}, cwd=cwd).path.name
    assert find_home(environ={}, cwd=cwd).path.is_absolute()


def test_a_working_directory_that_is_gone_is_no_obstacle(environ: dict[str, str], tmp_path: Path) -> None:
    """Only a relative name needs it."""
    program = (
        "import os, tempfile\n"
        "from oubliette_core.config import find_home\n"
        "from oubliette_core.errors import ConfigError\n"
        "gone = tempfile.mkdtemp(); os.chdir(gone); os.rmdir(gone)\n"
        f"print(find_home(environ={environ!r}).found_by, find_home({str(tmp_path)!r}, environ={{}}).found_by)\n"
        "try: find_home('x', environ={})\n"
        "except ConfigError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert ["~/.oubliette --dir", "--dir names x, and there is no working directory any more"] == shown.splitlines()


# -- Creating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_all_of_a_home_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Agents' logins, the database and tokens live in it."""
    home = Home(path=tmp_path / "new/home")
    previous = os.umask(umask)
    try:
        (tmp_path / "new").mkdir()
        (tmp_path / "new").chmod(0o755)
        home.create()
    finally:
        os.umask(previous)
    made = [home.path, *sorted(home.path.rglob("*"))]

    assert {0o700} == {_mode(path) for path in made if path.is_dir()}
    assert {0o600} == {_mode(path) for path in made if path.is_file()}
    assert {
        "config",
        "data",
        "data/projects",
        "data/locks",
        "data/logs",
        "data/cache",
        "data/home-id",
    } <= {str(path.relative_to(home.path)) for path in made}


def test_its_paths_are_those_that_are_documented(tmp_path: Path) -> None:
    """Backups and people rely on them."""
    home = Home(path=tmp_path)

    assert tmp_path / "config/oubliette.jsonc" == home.config_file
    assert tmp_path / "data/oubliette.db" == home.database
    assert tmp_path / "data/projects" == home.projects_dir
    assert tmp_path / "data/projects/proj_a/workspace" == home.workspace_dir("proj_a")
    assert tmp_path / "data/projects/proj_a/home" == home.project_home_dir("proj_a")
    assert tmp_path / "data/locks" == home.locks_dir
    assert tmp_path / "data/logs" == home.logs_dir
    assert tmp_path / "data/cache" == home.cache_dir


def test_creating_again_changes_nothing(home: Home) -> None:
    """``init`` can be repeated."""
    before = home.id
    home.create()

    assert before == home.id
    assert home.exists


def test_an_id_is_12_characters_of_base32(home: Home) -> None:
    """It is part of container names and labels."""
    assert 12 == len(home.id)
    assert set(home.id) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_two_homes_have_different_ids(home: Home, tmp_path: Path) -> None:
    """On one engine the id tells whose container it is."""
    other = Home(path=tmp_path / "other")
    other.create()

    assert home.id != other.id


def test_processes_that_create_a_home_together_agree_on_its_id(tmp_path: Path) -> None:
    """An MCP client may start several servers at once."""
    program = (
        "import sys; from pathlib import Path; from oubliette_core.config import Home\n"
        f"home = Home(path=Path({str(tmp_path / 'home')!r})); sys.stdin.read(); home.create(); print(home.id)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.close()  # all are ready to go: this is the start
    seen = []
    for process in processes:
        assert process.stdout
        with process.stdout as stdout:
            seen.append(stdout.read().strip())
        process.wait()

    assert {Home(path=tmp_path / "home").id} == set(seen)


def test_threads_that_create_a_home_together_agree_on_its_id(tmp_path: Path) -> None:
    """A server has many."""
    home, barrier, seen = Home(path=tmp_path / "home"), threading.Barrier(8), list[str]()

    def create() -> None:
        barrier.wait()
        home.create()
        seen.append(home.id)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [home.id] * 8 == seen


def test_an_empty_directory_becomes_private(tmp_path: Path) -> None:
    """It was made to be a home."""
    tmp_path.chmod(0o755)
    Home(path=tmp_path).create()

    assert 0o700 == _mode(tmp_path)


def test_a_directory_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    """Others may need to get at these; what is ours in it is private all the same."""
    tmp_path.chmod(0o755)
    (tmp_path / "other").write_text("")
    Home(path=tmp_path).create()

    assert [0o755, 0o700, 0o700] == [_mode(tmp_path), _mode(tmp_path / "config"), _mode(tmp_path / "data")]


def test_a_home_that_was_opened_is_closed_again(home: Home) -> None:
    """A careless ``chmod -R`` is put right by ``init``."""
    home.path.chmod(0o755)
    home.data_dir.chmod(0o755)
    home.create()

    assert [0o700, 0o700] == [_mode(home.path), _mode(home.data_dir)]


# -- What cannot be a home --------------------------------------------------------------------------------------------


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    """The first command that people try is often not ``init``."""
    home = Home(path=tmp_path / "home")

    assert not home.exists
    for use in (home.check, lambda: home.id):
        with pytest.raises(ConfigError, match=f"there is no Oubliette home at {home.path}") as caught:
            use()
        assert f"Make it: oubliette --dir {home.path} init" == caught.value.hint


def test_a_directory_alone_is_no_home(tmp_path: Path) -> None:
    """A mistyped ``--dir`` is not taken for an empty home."""
    with pytest.raises(ConfigError, match="there is no Oubliette home at"):
        Home(path=tmp_path).check()


def test_the_usual_home_is_made_without_naming_it(tmp_path: Path) -> None:
    """The hint is what has to be typed, no more."""
    with pytest.raises(ConfigError) as caught:
        Home(path=tmp_path / "home", found_by="~/.oubliette").check()

    assert "Make it: oubliette init" == caught.value.hint


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
def test_a_home_of_somebody_else_is_refused(home: Home) -> None:
    """Root in a user's home would leave files there that the user cannot touch."""
    os.chown(home.path, 4242, -1)

    for use in (home.check, home.create):
        with pytest.raises(ConfigError, match="belongs to uid 4242, and this is user root") as caught:
            use()
        assert "Run this as its owner" in caught.value.hint


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_home_that_others_can_write_is_refused(home: Home, mode: int) -> None:
    """They could put their own configuration in the place of ours."""
    home.path.chmod(mode)

    with pytest.raises(ConfigError, match="others can write to") as caught:
        home.check()
    assert f"Close it: chmod go-w {home.path}" == caught.value.hint


def test_a_file_is_no_home(tmp_path: Path) -> None:
    """It is not overwritten either."""
    (tmp_path / "file").write_text("mine")
    home = Home(path=tmp_path / "file")

    for use in (home.check, home.create):
        with pytest.raises(ConfigError):
            use()
    assert "mine" == (tmp_path / "file").read_text()


def test_a_directory_that_cannot_be_written_is_named() -> None:
    """The system's own word for it, and which path it was."""
    # Not in the test's own directory, which only its owner can enter.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o555)
        home = Home(path=Path(directory) / "home")
        with _as_ordinary_user(), pytest.raises(ConfigError) as caught:
            home.create()

    assert f"the home {home.path} cannot be used: {home.path}: Permission denied" == str(caught.value)


@contextlib.contextmanager
def _as_ordinary_user() -> Iterator[None]:
    """Root can write everywhere, so be somebody else for a while."""
    if IS_ROOT:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


def test_a_damaged_id_is_not_replaced(home: Home) -> None:
    """With a new id the home would lose sight of its containers."""
    (home.data_dir / "home-id").write_text("x")
    home.create()

    with pytest.raises(ConfigError, match="does not hold the id of a home"):
        _ = home.id


# -- Files and directories --------------------------------------------------------------------------------------------


def test_a_private_directory_is_never_made_through_a_link(tmp_path: Path) -> None:
    """A link could lead to a directory whose mode must not change."""
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")

    with pytest.raises(OSError, match="link"):
        make_private_dir(tmp_path / "link")
    assert 0o755 == _mode(tmp_path / "real")


def test_a_private_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A reader that has the old one open still reads it whole."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o644)
    with file.open("rb") as reader:
        write_private_file(file, b"new")

        assert b"old" == reader.read()
    assert (b"new", 0o600) == (file.read_bytes(), _mode(file))
    assert [file] == list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """No half of a file, and no temporary one."""
    (tmp_path / "target").mkdir()

    with pytest.raises(OSError, match="target"):
        write_private_file(tmp_path / "target", b"new")
    assert [tmp_path / "target"] == list(tmp_path.iterdir())
