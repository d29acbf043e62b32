"""``oubliette init``: afterwards everything is there, and nothing that was there is lost."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from oubliette_core.errors import ImagePullError
from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import BASE, ML, CommandLine

CONFIGURATION = f'{{"runtime": "fake", "containers": {{"base": "{BASE}", "ml": "{ML}"}}}}'


@pytest.fixture
def configured(oubliette: CommandLine, fake: FakeEngine) -> CommandLine:
    """The command line with a configuration and images that can be pulled, but no home yet."""
    fake.registry.publish(BASE)
    fake.registry.publish(ML)
    oubliette.configure(CONFIGURATION)
    return oubliette


def _config_file(oubliette: CommandLine) -> Path:
    return oubliette.home / "config" / "oubliette.jsonc"


def test_a_new_home_has_a_configuration_and_a_token(oubliette: CommandLine, fake: FakeEngine) -> None:
    """All of it for its owner alone; the token is shown once and works."""
    result = oubliette("--runtime", "fake", "init", "--no-pull")
    home, file, token, *rest = result.stdout.splitlines()

    assert (0, []) == (result.code, rest)
    assert (f"Made the home {oubliette.home}.", f"Wrote the configuration {_config_file(oubliette)}.") == (home, file)
    assert token.startswith("Access token admin, shown only now: oub_")
    assert (0o700, 0o600) == tuple(
        stat.S_IMODE(one.stat().st_mode) for one in (oubliette.home, _config_file(oubliette))
    )
    assert [("admin", ["admin"])] == [
        (one["name"], one["scopes"]) for one in json.loads(oubliette("token", "list", "--json").stdout)
    ]
    assert 0 == oubliette("config", "check").code
    assert {} == dict(fake.registry.requests)


def test_the_images_of_all_types_are_pulled(configured: CommandLine, fake: FakeEngine) -> None:
    """So that the first project starts at once."""
    result = configured("init")

    assert 0 == result.code
    assert [f"base: pulled {BASE} (3.0 MB)", f"ml: pulled {ML} (3.0 MB)"] == result.stdout.splitlines()[-2:]
    assert result.stderr.endswith("Ready. Make a project: oubliette project create NAME\n")
    assert {BASE: 1, ML: 1} == dict(fake.registry.requests)


def test_a_pull_that_fails_is_a_warning_with_the_command_to_repeat_it(
    configured: CommandLine, fake: FakeEngine
) -> None:
    """The home is made all the same, and the other image is here."""
    fake.registry.fail(ML, ImagePullError("no access", reason="unauthorized", hint="Log in."))
    result = configured("init")

    assert 0 == result.code
    assert "warning: ml: no access\n  hint: Log in.\n  pull it later: oubliette image pull ml\n" in result.stderr
    assert f"base: pulled {BASE} (3.0 MB)" in result.stdout


def test_without_an_engine_there_is_a_home_all_the_same(configured: CommandLine, fake: FakeEngine) -> None:
    """The images come later."""
    fake.go_away()
    result = configured("init")

    assert 0 == result.code
    assert "pull" in result.stderr.partition("warning: ")[2]
    assert 0 == configured("project", "create", "web").code


def test_without_a_runtime_there_is_a_home_all_the_same(configured: CommandLine) -> None:
    """What to install is told."""
    result = configured("--runtime", "nope", "init")

    assert 0 == result.code
    assert "warning: no images were pulled: no runtime is installed under the name 'nope'" in result.stderr
    assert "pull them later: oubliette image pull\n" in result.stderr


def test_init_can_be_repeated(configured: CommandLine, fake: FakeEngine) -> None:
    """It makes what is missing, keeps what is there, and shows no further token."""
    configured("init")
    result = configured("init")

    assert 0 == result.code
    assert [
        f"Kept the configuration {_config_file(configured)}.",
        f"base: {BASE} is here (3.0 MB)",
        f"ml: {ML} is here (3.0 MB)",
    ] == result.stdout.splitlines()
    assert CONFIGURATION == _config_file(configured).read_text(encoding="utf-8")
    assert {BASE: 1, ML: 1} == dict(fake.registry.requests)


@pytest.mark.parametrize(
    ("words", "answer", "replaced"),
    [((), "y\n", True), ((), "n\n", False), ((), "", False), (("--force",), None, True)],
)
def test_a_configuration_is_replaced_only_on_purpose(
    configured: CommandLine, words: tuple[str, ...], answer: str | None, replaced: bool
) -> None:
    """A backup of it is kept."""
    result = configured("--runtime", "fake", "init", "--no-pull", *words, answer=answer)
    backups = list(_config_file(configured).parent.glob("oubliette.jsonc.bak-*"))

    assert 0 == result.code
    assert replaced is (CONFIGURATION != _config_file(configured).read_text(encoding="utf-8"))
    assert [CONFIGURATION] * replaced == [file.read_text(encoding="utf-8") for file in backups]
    assert all(f"The former one is {file}." in result.stdout for file in backups)


def test_a_wrong_configuration_is_not_ignored(oubliette: CommandLine) -> None:
    """Its mistakes are told; a home is there to put them right in."""
    oubliette.configure('{"runtme": "fake"}')
    result = oubliette("init")

    assert 1 == result.code
    assert "  runtme: " in result.stderr


def test_in_dev_mode_nothing_is_pulled_and_what_is_missing_is_told(configured: CommandLine, fake: FakeEngine) -> None:
    """With the way to build it; init succeeds."""
    fake.add_image(BASE)
    result = configured("init", environ={"OUBLIETTE_DEV": "1"})

    assert 0 == result.code
    assert f"base: {BASE} is here" in result.stdout
    assert f"warning: ml: image {ML}" in result.stderr
    assert "hint: Build it" in result.stderr
    assert {} == dict(fake.registry.requests)


def test_the_directory_of_others_is_left_alone(oubliette: CommandLine) -> None:
    """What others can write to is no home."""
    oubliette.home.mkdir()
    (oubliette.home / "theirs").touch()
    oubliette.home.chmod(0o777)
    result = oubliette("init")

    assert (1, "") == (result.code, result.stdout)
    assert "others can write to" in result.stderr


def test_the_commands_that_are_recommended_are_about_the_same_home(oubliette: CommandLine, fake: FakeEngine) -> None:
    """Whoever names a home with ``--dir`` has to go on doing so."""
    other = oubliette.home.parent / "other home"
    result = oubliette("--dir", str(other), "--runtime", "fake", "init", "--no-pull")

    assert f"oubliette --dir '{other}' project create NAME" in result.stderr
