"""Running ``oubliette`` within the test's own process."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from oubliette_core.cli.output import Output
from oubliette_core.cli.root import run
from oubliette_core.config import Home
from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.fake_plugin import SharedFake, install
from tests.harness.sys_path import prepend

BASE = "registry.example.com/base:1"
ML = "registry.example.com/ml:1"


@attrs.frozen(kw_only=True)
class Result:
    """What one command did."""

    code: int
    stdout: str
    stderr: str


class _Keyboard(io.StringIO):
    """Standard input that somebody types at."""

    def isatty(self) -> bool:
        return True


class _Captured(io.TextIOWrapper):
    """A standard stream that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@attrs.frozen(kw_only=True)
class CommandLine:
    """``oubliette`` with a home and an environment of the test's own."""

    home: Path
    environ: dict[str, str]

    def __call__(self, *words: str, answer: str | None = None, environ: Mapping[str, str] | None = None) -> Result:
        """Run one command. :param answer: what is typed; None where standard input is no terminal."""
        stdout, stderr = _Captured(), _Captured()
        stdin = io.StringIO() if answer is None else _Keyboard(answer)
        output = Output(self.environ, stdin=stdin, stdout=stdout, stderr=stderr)
        code = run(words, {**self.environ, **(environ or {})}, output)
        return Result(code=code, stdout=stdout.text(), stderr=stderr.text())

    def configure(self, text: str) -> None:
        """Write the configuration."""
        file = self.home / "config" / "oubliette.jsonc"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """The engine in memory of the runtime ``fake``, which is installed for the test."""
    install(tmp_path / "plugins")
    prepend(tmp_path / "plugins", monkeypatch)
    shared = FakeEngine()
    monkeypatch.setattr(SharedFake, "shared", shared, raising=False)
    yield shared
    shared.shut_down()


@pytest.fixture
def ready(oubliette: CommandLine, fake: FakeEngine) -> CommandLine:
    """The command line with a home, the runtime ``fake``, and types ``base`` and ``ml``, whose images can be pulled."""
    fake.registry.publish(BASE)
    fake.registry.publish(ML)
    oubliette.configure(f'{{"runtime": "fake", "containers": {{"base": "{BASE}", "ml": {{"image": "{ML}"}}}}}}')
    Home(path=oubliette.home).create()
    return oubliette


@pytest.fixture
def oubliette(tmp_path: Path) -> CommandLine:
    """The command line, with a home that does not exist yet."""
    home = tmp_path / "home"
    return CommandLine(home=home, environ={"OUBLIETTE_HOME": str(home), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
