"""The commands are found, cheap until they run, and end with documented codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer

from oubliette_core import __version__
from oubliette_core.cli import root
from oubliette_core.cli.apps import Group
from oubliette_core.config import Home
from oubliette_core.errors import ProjectNotFoundError
from tests.core.cli.conftest import CommandLine

SCRIPT = Path(sys.executable).with_name("oubliette")
EXPENSIVE = {"acp", "anyio", "docker", "json5", "mcp", "pydantic", "requests", "rich", "sqlite3", "cattrs", "tenacity"}


RUNTIMES = {"oubliette_core.plugins", "oubliette_core.runtime", "oubliette_core.images", "oubliette_core.server"}
"""What commands do not need that only look at the home."""


def loaded_by(*words: str, environ: Mapping[str, str] | None = None) -> set[str]:
    """Return the modules that a command loads, and the packages that these are in."""
    program = (
        "import sys; from oubliette_core.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.stderr.write('\\n' + ' '.join(sys.modules))"
    )
    # Measuring the coverage of a process loads modules, too.
    variables = os.environ if environ is None else environ
    variables = {name: value for name, value in variables.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", [[str(SCRIPT)], [sys.executable, "-m", "oubliette_core"]])
def test_the_command_and_the_module_are_the_same(command: list[str]) -> None:
    """The module is there for where the script is not on PATH."""
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)

    assert f"oubliette {__version__}\n" == done.stdout


def test_the_version_needs_no_framework() -> None:
    """Scripts and editors ask for it all the time."""
    assert set() == (EXPENSIVE | {"attr", "pluggy", "typer"}) & loaded_by("--version")


def test_help_loads_no_command() -> None:
    """What all commands need together would take a second."""
    assert set() == (EXPENSIVE | RUNTIMES | {"oubliette_core.models"}) & loaded_by("--help")


@pytest.mark.parametrize(
    "words", [("project", "list"), ("token", "list"), ("serve", "status"), ("config", "path"), ("container", "--help")]
)
@pytest.mark.parametrize("chosen", [{}, {"CONTAINER_RUNTIME": "docker"}], ids=["auto", "named"])
def test_what_only_looks_loads_no_runtime(
    oubliette: CommandLine, words: tuple[str, ...], chosen: dict[str, str]
) -> None:
    """Nor what pulls images, serves or checks a configuration that says next to nothing; the database at most."""
    Home(path=oubliette.home).create()
    loaded = loaded_by(*words, environ={**oubliette.environ, **chosen})

    assert set() == (EXPENSIVE - {"sqlite3"} | RUNTIMES - {"oubliette_core.server"}) & loaded
    assert set() == {"oubliette_core.server.serving", "importlib.metadata", "concurrent.futures", "tarfile"} & loaded


def test_the_version_is_also_an_option_among_others(oubliette: CommandLine) -> None:
    """Wherever it stands."""
    assert f"oubliette {__version__}\n" == _stdout_of("--dir", str(oubliette.home), "--version")


def _stdout_of(*words: str) -> str:
    return subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", root.COMMANDS)
def test_every_command_can_be_loaded_and_says_what_help_says_of_it(name: str) -> None:
    """The summaries of the stand-ins are kept the same as those of the commands."""
    command = root.load(name)

    assert name == command.name
    assert root.COMMANDS[name] == command.help.splitlines()[0]


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(words: tuple[str, ...]) -> None:
    """Alone, ``oubliette`` says what it can do, and that is no mistake."""
    done = subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, check=True)

    assert all(f"\n  {name} " in done.stdout for name in root.COMMANDS)
    assert "" == done.stderr


def _groups() -> list[str]:
    return [name for name in root.COMMANDS if isinstance(root.load(name), Group)]


@pytest.mark.parametrize("name", _groups())
def test_a_group_alone_prints_its_help(name: str) -> None:
    """That is what was asked for: exit code 0."""
    done = subprocess.run([str(SCRIPT), name], capture_output=True, text=True, check=True)

    assert f"Usage: oubliette {name} [OPTIONS] COMMAND" in done.stdout


def test_every_command_of_every_group_explains_itself_and_its_options() -> None:
    """Nobody has to read the source."""
    unexplained = []
    for name in root.COMMANDS:
        loaded = root.load(name)
        for command in loaded.commands.values() if isinstance(loaded, Group) else [loaded]:
            unexplained += [f"{name} {command.name}"] if not command.help else []
            unexplained += [
                f"{name} {command.name} {one.name}" for one in command.params if not getattr(one, "help", "")
            ]

    assert [] == unexplained


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["contaner", "list"],
            "error: No such command 'contaner'. Did you mean 'container'?\n  hint: Try: oubliette --help\n",
        ),
        (["container", "lst"], "Did you mean 'list'"),
        (["version", "--jsn"], "No such option: --jsn"),
        (["--dir"], "Option '--dir' requires an argument."),
        (["--dir", "/x"], "Missing command."),
    ],
)
def test_a_mistake_in_the_command_line_is_explained_in_one_line(
    oubliette: CommandLine, words: list[str], message: str
) -> None:
    """With the code 2 and without a traceback."""
    result = oubliette(*words)

    assert (2, "") == (result.code, result.stdout)
    assert message in result.stderr
    assert 2 >= result.stderr.count("\n")


def _raising(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    return app


def test_an_expected_error_is_told_without_a_traceback(oubliette: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, a hint, and its code."""
    error = ProjectNotFoundError("there is no project 'x'", hint="oubliette project list")
    monkeypatch.setattr("oubliette_core.cli.version.app", _raising(error))
    result = oubliette("version")

    assert (4, "error: there is no project 'x'\n  hint: oubliette project list\n") == (result.code, result.stderr)


def test_a_bug_keeps_its_traceback(oubliette: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be found without."""
    monkeypatch.setattr("oubliette_core.cli.version.app", _raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        oubliette("version")


def test_ctrl_c_says_so_and_ends_with_130(oubliette: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it came from elsewhere than a signal of ours."""
    monkeypatch.setattr("oubliette_core.cli.version.app", _raising(KeyboardInterrupt()))

    assert 130 == oubliette("version").code


def test_a_reader_that_has_gone_is_no_error() -> None:
    """``oubliette ... | head`` prints nothing about a broken pipe."""
    command = f"{SCRIPT} version --json; echo $? >&2"
    done = subprocess.run(["sh", "-c", f"({command}) | :"], capture_output=True, text=True, check=True)

    assert done.stderr in ("141\n", "0\n")  # whether the reader was gone before we wrote


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_a_shell_can_complete_commands(shell: str, word: str) -> None:
    """The script for a shell asks us again for each TAB."""
    variables = {"_OUBLIETTE_COMPLETE": f"source_{shell}"}
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=True, env=variables)

    assert word in done.stdout
    assert f"_OUBLIETTE_COMPLETE=complete_{shell}" in done.stdout


def test_the_current_shell_can_complete_commands() -> None:
    """Which shell that is, is seen by looking at who started us."""
    script = ["bash", "-c", f"{SCRIPT} --show-completion; exit $?"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)

    assert "_OUBLIETTE_COMPLETE=complete_bash" in done.stdout


def _completed(line: str, **environ: str) -> list[str]:
    variables = {"_OUBLIETTE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=True, env=variables | environ)
    assert "" == done.stderr
    return done.stdout.split()


def test_commands_are_completed() -> None:
    """At the first and at the second word."""
    assert ["config", "container"] == sorted(_completed("oubliette co"))
    assert ["refresh"] == _completed("oubliette container re")


def test_container_types_are_completed(tmp_path: Path) -> None:
    """From the configuration, or what holds without one."""
    assert ["base"] == _completed("oubliette project create x --type b", OUBLIETTE_HOME=str(tmp_path / "none"))
