"""A store, and users who unpack layers: whoever runs the tests, and an ordinary user if that is root."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.testing.images import Layer, digest_of
from oubliette_embedded.images import ImageStore
from tests.embedded.images import unpacker

ROOT = Path(__file__).parents[3]
USER = 54321
"""An id that no user of this machine has."""

Order = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries are reached as the tests say, whatever way this machine has to others."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    return ImageStore(tmp_path / "images")


class Unpacking:
    """Unpacks layers below a directory, as one user.

    :ivar folder: belongs to that user, who can reach it. :ivar is_self: that user is who runs the tests.
    """

    def __init__(self, folder: Path, order: Order, *, is_self: bool) -> None:
        self.folder, self.is_self = folder, is_self
        self.order = order
        self._count = 0

    def unpack(self, given: Layer | bytes, *, diff_id: str | None = None, **limits: int) -> tuple[Path, dict[str, Any]]:
        """Unpack a layer, or an archive that is not compressed; give where and what came of it."""
        data = given.data if isinstance(given, Layer) else given
        expected = diff_id or (given.diff_id if isinstance(given, Layer) else digest_of(given))
        self._count += 1
        source, target = self.folder / f"layer-{self._count}", self.folder / f"tree-{self._count}"
        source.write_bytes(data)
        source.chmod(0o644)
        answer = self.order(what="unpack", layer=str(source), target=str(target), diff_id=expected, **limits)
        return target, answer

    def good(self, given: Layer | bytes, **limits: Any) -> Path:
        """Unpack a layer that is all right."""
        target, answer = self.unpack(given, **limits)
        assert "failure" not in answer, answer
        return target

    def refused(self, given: Layer | bytes, **limits: Any) -> str:
        """Unpack a layer that is not, and give why."""
        target, answer = self.unpack(given, **limits)
        assert "corrupt" == answer.get("failure"), answer
        self.order(what="remove", path=str(target))
        assert not target.exists()
        return str(answer["why"])


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[Order | None]:
    """Carries orders out as an ordinary user; None when the tests are run by one."""
    if os.geteuid():
        yield None
        return
    with subprocess.Popen(
        [sys.executable, "-m", unpacker.__name__, str(USER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdin
        assert process.stdout
        to, answers = process.stdin, process.stdout

        def order(**fields: Any) -> dict[str, Any]:
            to.write(f"{json.dumps(fields)}\n")
            to.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer

        yield order
        to.close()


@pytest.fixture
def user_folder() -> Iterator[Callable[[], Path]]:
    """Makes directories that belong to the ordinary user, who can reach them: not so those below `tmp_path`."""
    with contextlib.ExitStack() as stack:

        def make(owner: int = USER) -> Path:
            folder = Path(tempfile.mkdtemp())
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.chmod(0o755)
            if os.geteuid() == 0:
                os.chown(folder, owner, owner)
            return folder

        yield make


@pytest.fixture(params=["self", "user"])
def unpacking(
    request: pytest.FixtureRequest, ordinary_user: Order | None, user_folder: Callable[..., Path]
) -> Unpacking:
    """Unpacks layers: once as whoever runs the tests, and once as an ordinary user if that is root."""
    if request.param == "self":
        return Unpacking(user_folder(os.geteuid()), lambda **fields: unpacker.carry_out(fields), is_self=True)
    if ordinary_user is None:
        pytest.skip("the tests are run by an ordinary user already")
    return Unpacking(user_folder(), ordinary_user, is_self=False)
