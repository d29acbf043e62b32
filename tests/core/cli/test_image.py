"""``oubliette image``: each image of the configuration, where it is, and what became of its pull."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oubliette_core.errors import ImagePullError
from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import BASE, ML, CommandLine


def test_the_images_of_all_types_are_listed(ready: CommandLine, fake: FakeEngine) -> None:
    """Whether they are here or not, without asking the registry."""
    fake.add_image(BASE)
    listed = json.loads(ready("image", "list", "--json").stdout)

    assert [("base", BASE, "missing"), ("ml", ML, "missing")] == [
        (one["type"], one["image"], one["pull"]) for one in listed
    ]
    assert [True, False] == [one["local"] is not None for one in listed]
    lines = ready("image", "list").stdout.splitlines()
    assert [["base", BASE, "missing", "yes"], ["ml", ML, "missing", "no"]] == [line.split()[:4] for line in lines[1:]]
    assert {} == dict(fake.registry.requests)


def test_all_are_pulled_and_each_is_reported(ready: CommandLine) -> None:
    """Results on standard output, progress on standard error."""
    result = ready("image", "pull")

    assert (0, [f"base: pulled {BASE} (3.0 MB)", f"ml: pulled {ML} (3.0 MB)"]) == (
        result.code,
        result.stdout.splitlines(),
    )
    assert {f"base: pulling {BASE}", f"ml: pulling {ML}"} < set(result.stderr.splitlines())


def test_only_those_that_were_named_are_pulled(ready: CommandLine, fake: FakeEngine) -> None:
    """Each once."""
    assert 0 == ready("image", "pull", "ml", "ml").code
    assert {f"{ML}": 1} == dict(fake.registry.requests)


def test_a_pull_asks_the_registry_again(ready: CommandLine, fake: FakeEngine) -> None:
    """That is what it is for; ``--if-missing`` is for scripts."""
    ready("image", "pull")
    fake.registry.publish(BASE, "2")

    assert ["All of them are here."] == ready("image", "pull", "--if-missing").stderr.splitlines()
    told = ready("image", "pull", "--json").stdout
    assert [("base", "pulled"), ("ml", "unchanged")] == [(one["type"], one["action"]) for one in json.loads(told)]


def test_one_that_fails_does_not_keep_the_others(ready: CommandLine, fake: FakeEngine) -> None:
    """It is told in one line with a hint, and the exit code is that of its failure."""
    fake.registry.fail(ML, ImagePullError("no access to \x1b[31mml", reason="unauthorized", hint="Log in."))
    result = ready("image", "pull")

    assert (1, f"base: pulled {BASE} (3.0 MB)\n") == (result.code, result.stdout)
    assert result.stderr.endswith("error: ml: no access to \\x1b[31mml\n  hint: Log in.\n")


def test_programs_get_failures_as_json_too(ready: CommandLine, fake: FakeEngine) -> None:
    """With what they need to decide."""
    fake.registry.withdraw(ML)
    result = ready("image", "pull", "--json")
    base, ml = json.loads(result.stdout)

    assert 4 == result.code
    assert (None, "failed") == (base["error"], ml["action"])
    assert {"type": "ImagePullError", "exit_code": 4}.items() <= ml["error"].items()


def test_an_unknown_type_is_answered_with_the_known_ones(ready: CommandLine, fake: FakeEngine) -> None:
    """Nothing was pulled."""
    result = ready("image", "pull", "base", "nope")

    assert (4, "") == (result.code, result.stdout)
    assert "there is no container type 'nope'; configured: base, ml" in result.stderr
    assert {} == dict(fake.registry.requests)


@pytest.mark.parametrize("present", [True, False])
def test_in_dev_mode_nothing_is_pulled(ready: CommandLine, fake: FakeEngine, present: bool) -> None:
    """What is missing is told with the way to build it."""
    if present:
        fake.add_image(BASE)
    result = ready("image", "pull", "base", environ={"OUBLIETTE_DEV": "1"})

    assert (0 if present else 4) == result.code
    assert present or "Build it" in result.stderr
    assert {} == dict(fake.registry.requests)


def test_what_was_saved_is_loaded(ready: CommandLine, fake: FakeEngine, tmp_path: Path) -> None:
    """Each command says what it did, and the second one which types are still missing."""
    ready("image", "pull")
    archive = tmp_path / "images.tar"
    saved = ready("image", "save", str(archive), "base")
    for image in (BASE, ML):
        fake.images.remove(image, lambda image: None)
    loaded = ready("image", "load", str(archive))

    assert (0, True) == (saved.code, saved.stdout.startswith(f"saved base in {archive} ("))
    assert (0, True) == (loaded.code, f"loaded {BASE}" in loaded.stdout)
    again = json.loads(ready("image", "load", str(archive), "--json").stdout)
    assert (["ml"], [BASE]) == (again["missing_types"], again["images"][0]["references"][:1])


def test_a_lock_is_written_and_kept(ready: CommandLine, fake: FakeEngine) -> None:
    """Until it is told to move."""
    first = json.loads(ready("image", "lock", "--json").stdout)
    fake.registry.publish(BASE, "2")
    again = json.loads(ready("image", "lock", "--json").stdout)
    moved = json.loads(ready("image", "lock", "--update", "--json").stdout)

    assert str(ready.home / "config" / "oubliette.lock") == first["file"]
    assert first["locked"]["base"].startswith(f"{BASE}@sha256:")
    assert first["locked"] == again["locked"]
    assert first["locked"]["base"] != moved["locked"]["base"]
    assert first["locked"]["ml"] == moved["locked"]["ml"]


def test_a_lock_that_fails_says_for_which_type(ready: CommandLine, fake: FakeEngine) -> None:
    """And that nothing was written."""
    fake.registry.withdraw(ML)
    result = ready("image", "lock")

    assert 4 == result.code
    assert "ml: " in result.stderr
    assert not (ready.home / "config" / "oubliette.lock").exists()


def test_the_mirror_of_the_configuration_is_used(ready: CommandLine, fake: FakeEngine) -> None:
    """For what containers are made of, too."""
    ready.configure(
        f'{{"runtime": "fake", "containers": {{"base": "{BASE}"}},'
        ' "registries": {"mirrors": {"registry.example.com": "localhost:5000/copy"}}}'
    )
    fake.registry.publish("localhost:5000/copy/base:1")
    ready("project", "create", "demo")

    assert 0 == ready("container", "start", "demo").code
    assert {"localhost:5000/copy/base:1": 1} == dict(fake.registry.requests)
    assert ["localhost:5000/copy/base:1"] == [container.spec.image for container in fake.containers()]
