"""``oubliette project``: people get sentences, programs get JSON, and nothing is deleted by accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import BASE, CommandLine


def _made(ready: CommandLine, name: str, *words: str) -> dict[str, str]:
    """Make a project and return what is told of it."""
    made: dict[str, str] = json.loads(ready("project", "create", name, *words, "--json").stdout)
    return made


def test_a_new_project_is_of_the_default_type(ready: CommandLine) -> None:
    """And the next step is told, apart from the data."""
    result = ready("project", "create", "web")

    assert 0 == result.code
    assert result.stdout.startswith("Created project web (proj_")
    assert result.stdout.endswith(") of type base.\n")
    assert "Start it: oubliette container start web\n" == result.stderr


def test_programs_get_a_project_as_json(ready: CommandLine) -> None:
    """These names are a promise."""
    made = _made(ready, "web", "--type", "ml")

    assert ["id", "name", "type", "repository", "generation", "created_at", "workspace", "home"] == list(made)
    assert ("web", "ml", "") == (made["name"], made["type"], made["repository"])
    assert Path(made["workspace"]).is_dir()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["x", "--type", "nope"],
            4,
            "error: there is no container type 'nope' in the configuration; there are: base, ml",
        ),
        (["web"], 5, "error: there is a project 'web' already"),
        (["../etc"], 2, "error: '../etc' cannot be a project's name"),
        (["x", "--repo", "file:///etc"], 2, "error: "),
    ],
)
def test_what_cannot_be_made_is_refused(ready: CommandLine, words: list[str], code: int, message: str) -> None:
    """With a code of its own, and nothing left behind."""
    _made(ready, "web")
    result = ready("project", "create", *words)

    assert (code, "") == (result.code, result.stdout)
    assert result.stderr.startswith(message)
    assert ["web"] == [one["name"] for one in json.loads(ready("project", "list", "--json").stdout)]


def test_projects_are_listed_without_a_runtime(ready: CommandLine, fake: FakeEngine) -> None:
    """What Oubliette itself knows is there when the engine is not."""
    _made(ready, "web")
    _made(ready, "api")
    fake.go_away()
    result = ready("project", "list")

    assert ["NAME", "api", "web"] == [line.split()[0] for line in result.stdout.splitlines()]
    assert {} == dict(fake.calls)


def test_where_there_are_none_the_next_step_is_told(ready: CommandLine) -> None:
    """And programs get an empty list."""
    assert "No projects. Make one: oubliette project create NAME\n" == ready("project", "list").stderr
    assert [] == json.loads(ready("project", "list", "--json").stdout)


@pytest.mark.parametrize("reference", ["web", "id", "prefix"])
def test_a_project_is_found_by_name_id_and_prefix(ready: CommandLine, reference: str) -> None:
    """Whatever is at hand."""
    made = _made(ready, "web")
    words = {"web": "web", "id": made["id"], "prefix": made["id"][:8]}

    assert made == json.loads(ready("project", "show", words[reference], "--json").stdout)["project"]


def test_a_project_is_shown_with_its_container(ready: CommandLine) -> None:
    """What runs, and what of it could not be enforced."""
    _made(ready, "web")
    ready("container", "start", "web")
    shown = dict(line.split(":", 1) for line in ready("project", "show", "web").stdout.splitlines())

    assert ("running", BASE) == (shown["state"].strip(), shown["image"].strip())
    assert "drop_capabilities" in shown["not enforced"]


def test_without_an_engine_a_project_is_shown_all_the_same(ready: CommandLine, fake: FakeEngine) -> None:
    """Only its container's state is not known, and why is told."""
    made = _made(ready, "web")
    ready("container", "start", "web")
    fake.go_away()
    result = ready("project", "show", "web", "--json")
    shown = json.loads(result.stdout)

    assert (0, "unknown", BASE, None) == (result.code, shown["state"], shown["image"], shown["container"])
    assert made["id"] == shown["project"]["id"]
    assert result.stderr.startswith("warning: the container's state is not known: ")


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_project_is_not_deleted_without_a_yes(ready: CommandLine, answer: str) -> None:
    """The question names what would be lost."""
    made = _made(ready, "web")
    result = ready("project", "delete", "web", answer=answer)

    assert 1 == result.code
    assert (
        f"Delete project web ({made['id']}), its container and all files in {made['workspace']}? [y/N]" in result.stderr
    )
    assert Path(made["workspace"]).is_dir()


def test_a_script_has_to_say_yes_beforehand(ready: CommandLine) -> None:
    """It is not asked, and nothing is deleted by default."""
    _made(ready, "web")
    result = ready("project", "delete", "web")

    assert (2, True) == (result.code, "hint: Say yes with --yes." in result.stderr)
    assert 0 == ready("project", "show", "web").code


@pytest.mark.parametrize(("words", "answer"), [(["--yes"], None), ([], "y\n")])
def test_a_deleted_project_is_gone_with_its_container_and_files(
    ready: CommandLine, fake: FakeEngine, words: list[str], answer: str | None
) -> None:
    """Nothing of it is left."""
    made = _made(ready, "web")
    ready("container", "start", "web")
    result = ready("project", "delete", "web", *words, answer=answer)

    assert (0, f"Deleted project web ({made['id']}).\n") == (result.code, result.stdout)
    assert [] == fake.containers()
    assert not Path(made["workspace"]).exists()
    assert 4 == ready("project", "show", "web").code


def test_a_workspace_can_be_kept(ready: CommandLine) -> None:
    """And where it is, is told."""
    made = _made(ready, "web")
    (Path(made["workspace"]) / "thesis").write_text("done", encoding="utf-8")
    result = ready("project", "delete", "web", "--keep-workspace", "--yes")
    kept = Path(result.stdout.splitlines()[1].removeprefix("Its workspace is still at ").rstrip("."))

    assert "done" == (kept / "thesis").read_text(encoding="utf-8")


def test_the_options_are_the_configured_types(ready: CommandLine) -> None:
    """With the one that holds when none is named."""
    shown = json.loads(ready("project", "options", "--json").stdout)

    assert ("base", ["base", "ml"]) == (shown["default_type"], [one["name"] for one in shown["types"]])
    assert 3 == len(ready("project", "options").stdout.splitlines())


def test_without_a_home_the_way_to_one_is_told(oubliette: CommandLine) -> None:
    """It is not made by the way: the user may have meant another."""
    result = oubliette("project", "list")

    assert (1, f"error: there is no Oubliette home at {oubliette.home}\n") == (
        result.code,
        result.stderr.partition("  ")[0],
    )
    assert "oubliette --dir" in result.stderr
    assert not oubliette.home.exists()
