"""Every block of README and docs is run or checked, and every command of ours that they name exists."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

from docs.generate.configuration import START
from docs.generate.words import MADE
from oubliette_core.cli import root
from oubliette_core.cli.apps import UsageError
from oubliette_core.config import Home, Source, load_config
from oubliette_core.plugins import RuntimeCatalogue
from tests.docs.blocks import ROOT, Block, blocks, commands_in_text, tracked

PAGES = tracked("*.md")
BLOCKS = [block for page in PAGES for block in blocks(page)]
CUT = ROOT / "docs/how-to/write-a-runtime.md"
"""Whose blocks are pieces of code that is tested."""
OUTSIDE = {
    "brew": "Homebrew is on a Mac only",
    "dockerd-rootless-setuptool.sh": "changes the machine for good",
    "gh": "asks the forge about a release",
    "git": "pushes the tag of a release",
    "systemctl": "there is no service manager here",
}
"""Programs that no test runs, and why. That their words are right is up to whoever writes them."""


def _language(block: Block) -> str:
    return "toctree" if block.language == "{toctree}" else block.language


def _is_handled(block: Block) -> bool:
    runs = any(other.language == "console" for other in blocks(block.page))
    made = MADE in block.page.read_text() or START in block.page.read_text()
    return {
        "console": True,
        "sh": True,
        "json5": True,
        "toctree": block.page == ROOT / "docs/index.md",
        "text": made or block.page == ROOT / "docs/explanation/architecture.md",
        "dockerfile": runs and block.file != "",
        "python": block.page == CUT or (runs and block.file != ""),
        "toml": block.page == CUT,
    }.get(_language(block), False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_is_left_out(page: Path) -> None:
    """A block says by its language what is done with it: see `tests.docs.blocks`."""
    assert [] == [f"{block} {block.language!r}" for block in blocks(page) if not _is_handled(block)]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json5"], ids=str)
def test_a_configuration_is_one(block: Block, tmp_path: Path) -> None:
    """What the pages show can be put into the file as it is."""
    home = Home(path=tmp_path / "home")
    home.create()
    (tmp_path / "some.pem").touch()
    text = re.sub(r'"[~/][^"]*\.pem"', f'"{tmp_path}/some.pem"', block.text)  # a runtime looks whether they are there
    home.config_file.write_text(text, encoding="utf-8")
    home.config_file.chmod(0o600)
    loaded = load_config(home, environ={"ANTHROPIC_API_KEY": "made up"})

    assert [] != [setting for setting in loaded.settings() if setting.source is Source.FILE]
    for name in loaded.config.runtimes:  # what stands there is checked by the runtime itself
        RuntimeCatalogue(loaded.runtime_settings).load(name).close()


def _extras() -> dict[str, set[str]]:
    found = {}
    for file in ROOT.glob("oubliette_*/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        found[project["name"]] = set(project.get("optional-dependencies", {}))
    return found


def _check_pip(words: Sequence[str]) -> None:
    known = _extras()
    for word in words[1:]:
        if word.startswith("oubliette-") and not word.startswith("oubliette-podman"):
            wanted = Requirement(word)
            assert wanted.extras <= known[wanted.name], word
        elif word.startswith("./"):
            folder, _, extras = word.partition("[")
            if "my-engine" not in folder:
                assert (ROOT / folder / "pyproject.toml").exists(), word
                assert set(extras.rstrip("]").split(",")) - {""} <= known[folder[2:].replace("_", "-")], word


def _parse(words: Sequence[str], *, whole: bool = True) -> None:
    """Take a command line of ours apart, and do nothing. :param whole: nothing that is needed is left out."""
    command: Any = typer.main.get_command(root.app)
    context, name, rest = None, "oubliette", list(words)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(typer.Exit):
            while True:
                context = command.make_context(name, rest, parent=context)
                rest = [*getattr(context, "_protected_args", ()), *context.args]
                if not hasattr(command, "commands") or not rest:
                    return
                name, command, rest = command.resolve_command(context, rest)
    except UsageError as error:
        if whole or "Missing" not in error.format_message():
            raise AssertionError(f"oubliette {shlex.join(words)}: {error.format_message()}") from error


def _check(line: str) -> None:
    words = shlex.split(line, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program = words[0] if words else ":"
    if program == "oubliette":
        _parse(words[1:])
    elif program.endswith("pip"):
        _check_pip(words[1:])
    elif program in ("./dev", "nox"):
        sessions = re.findall(r"^@nox\.session.*\ndef (\w+)\(", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE)
        assert {*sessions, "test", "list"} >= {words[-1] if program == "nox" else words[1]}, line
    elif program.startswith("./"):
        assert (ROOT / program).exists(), line
    elif program.startswith("python"):
        assert words[1] == "-m", line
    else:
        assert program in {*OUTSIDE, "export", ":"}, line


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=str)
def test_a_command_that_is_not_run_could_be(block: Block) -> None:
    """A shell understands it, our own programs do too, and any other is known to be one that cannot be run here."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    for line in block.text.splitlines():
        _check(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_exist(page: Path) -> None:
    """With the options that they are named with."""
    for command in commands_in_text(page):
        words = shlex.split(re.sub(r"\[[^]]*\]|\.\.\.|…", "", command))
        _parse(words[1:], whole=False)


@pytest.mark.parametrize("wrong", ["oubliette projekt list", "oubliette init --hard", "oubliette project create"])
def test_a_command_that_does_not_exist_is_seen(wrong: str) -> None:
    """Renamed commands and options have to be renamed in the pages, too."""
    with pytest.raises(AssertionError, match=wrong):
        _check(wrong)
