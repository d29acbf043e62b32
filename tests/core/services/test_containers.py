"""Containers of projects: one at most for each, found by what it is, and safe to be asked for at any time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import attrs
import pytest

from oubliette_core.config import Config, ContainerDefaults, ContainerTypeConfig, LoadedConfig, Source
from oubliette_core.errors import (
    ActiveSessionsError,
    ContainerNotFoundError,
    ContainerNotRunningError,
    ImageNotFoundError,
    ImagePullError,
    InvalidSpecError,
    ProjectNotFoundError,
    RuntimeUnavailableError,
    StartFailedError,
    UnsupportedError,
)
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
    Capability,
    ContainerInfo,
    ContainerSpec,
    ExecSpec,
    LogSpec,
    PullPolicy,
    RuntimeSettings,
)
from oubliette_core.services.owners import Owner
from oubliette_core.services.records import SessionKind
from oubliette_core.testing.fake import FakeRuntime
from oubliette_core.testing.fake.kernel import MAGIC
from tests.core.services.conftest import BASE, DEV

if TYPE_CHECKING:
    from pathlib import Path

    from tests.core.services.conftest import Bench

FREE = ExecSpec(command=("/bin/sh", "-c", "echo free"))


# -- Starting -----------------------------------------------------------------------------------------------------


def test_the_first_start_pulls_the_image_and_makes_the_container(bench: Bench) -> None:
    """It runs, in its workspace, with a HOME that can be written to."""
    status = bench.start()
    printed = bench.run("demo", "pwd; echo $HOME; touch file $HOME/file && echo written")

    assert "running" == status.state
    assert "/workspace\n/home/oubliette\nwritten\n" == printed
    assert ["file"] == [path.name for path in status.project.workspace.iterdir()]
    assert ["file"] == [path.name for path in status.project.home.iterdir()]
    assert 1 == bench.engine.calls["pull"]


def test_the_container_is_named_and_labelled(bench: Bench) -> None:
    """Finding is by label; the name tells people whose it is."""
    status = bench.start()
    assert status.container is not None
    labels = dict(status.container.labels)
    attempt = labels.pop("dev.oubliette.attempt")
    labels.pop("dev.oubliette.not-enforced")

    assert f"oubliette-{bench.home.id[:6]}-{status.project.id}-g1" == status.container.name
    assert attempt.startswith("try_")
    assert {
        "dev.oubliette.home": bench.home.id,
        "dev.oubliette.project": status.project.id,
        "dev.oubliette.type": "base",
        "dev.oubliette.generation": "1",
    } == labels


def test_starting_what_runs_changes_nothing(bench: Bench) -> None:
    """And asks the engine once."""
    first = bench.start()
    bench.engine.calls.clear()
    second = bench.app.containers.start("demo")

    assert first == second
    assert {"inspect": 1} == dict(bench.engine.calls)


def test_a_stopped_container_is_started_again_with_its_files(bench: Bench) -> None:
    """The same one, not a new one."""
    first = bench.start()
    bench.run("demo", "echo x > /tmp/x")
    stopped = bench.app.containers.stop("demo")
    second = bench.app.containers.start("demo")

    assert ["running", "exited", "running"] == [first.state, stopped.state, second.state]
    assert first.container is not None
    assert second.container is not None
    assert first.container.id == second.container.id
    assert "x\n" == bench.run("demo", "cat /tmp/x")


def test_a_container_that_was_removed_from_outside_is_made_anew(bench: Bench) -> None:
    """The project's files are where they were."""
    first = bench.start()
    bench.run("demo", "echo x > /workspace/x")
    assert first.container is not None
    bench.app.runtime.remove(first.container.id, force=True)
    absent = bench.app.containers.get("demo")
    second = bench.app.containers.start("demo")

    assert ("absent", "running", 2) == (absent.state, second.state, second.project.generation)
    assert "x\n" == bench.run("demo", "cat /workspace/x")


def test_eight_starts_at_once_make_one_container(bench: Bench) -> None:
    """All of them get it."""
    bench.app.projects.create("demo")
    found: list[str] = []

    def start() -> None:
        container = bench.app.containers.start("demo").container
        assert container is not None
        found.append(container.id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each.id for each in bench.engine.containers()] * 8 == found
    assert 1 == bench.engine.calls["pull"]


def test_an_image_that_cannot_be_had_leaves_nothing(bench: Bench) -> None:
    """Neither pulled, nor allowed to be pulled."""
    never = attrs.evolve(bench.config, containers={"none": ContainerTypeConfig(image="none:1", pull=PullPolicy.NEVER)})
    bench.registry.withdraw(BASE)
    bench.app.projects.create("demo")
    with pytest.raises(ImagePullError):
        bench.app.containers.start("demo")
    app = bench.open(LoadedConfig(config=never))
    app.projects.create("other")
    with pytest.raises(ImageNotFoundError):
        app.containers.start("other")

    assert [] == bench.engine.containers()
    assert [(0, ""), (0, "")] == [(each.generation, each.pending) for each in bench.app.projects.list()]


def test_a_container_that_ends_at_once_is_an_error_and_leaves_nothing(bench: Bench) -> None:
    """The error has what it said."""
    config = Config(
        containers={"bad": ContainerTypeConfig(image=DEV, command=("/bin/sh", "-c", "echo because; exit 3"))}
    )
    app = bench.open(LoadedConfig(config=config))
    app.projects.create("demo")
    with pytest.raises(StartFailedError) as caught:
        app.containers.start("demo")

    assert (3, b"because\n") == (caught.value.exit_code, caught.value.output)
    assert [] == bench.engine.containers()
    assert 0 == app.projects.get("demo").generation


def test_an_image_without_a_shell_is_told(bench: Bench) -> None:
    """Nothing could be run in its container, so it is no use as one."""
    bench.registry.publish(BASE, bare=True, files={"/bin/program": MAGIC + b"program\n"})
    bench.engine.programs["program"] = lambda task: (task.kernel.wait(lambda: False, task=task), 0)[1]
    config = attrs.evolve(bench.config, containers={"base": ContainerTypeConfig(image=BASE, command=("/bin/program",))})
    app = bench.open(LoadedConfig(config=config))
    app.projects.create("demo")
    with pytest.raises(StartFailedError) as caught:
        app.containers.start("demo")

    assert "/bin/sh" in caught.value.message
    assert [] == bench.engine.containers()


# -- What runs, and how -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("idle",), "absent"),
        (("image",), "from the image"),
        (("/bin/sh", "-c", "echo mine > /workspace/who; sleep 1000"), "mine"),
    ],
)
def test_the_command_is_that_of_the_type(bench: Bench, command: tuple[str, ...], expected: str) -> None:
    """Ours, the image's with its entry point, or the user's in place of both."""
    bench.engine.add_image(
        DEV, "2", entrypoint=("/bin/sh", "-c"), command=("echo from the image > /workspace/who; sleep 1000",)
    )
    app = bench.open(LoadedConfig(config=Config(containers={"dev": ContainerTypeConfig(image=DEV, command=command)})))
    project = app.projects.create("demo")
    app.containers.start("demo")
    who = project.workspace / "who"

    assert expected == (who.read_text().strip() if who.exists() else "absent")


def test_the_default_hardening_is_asked_for_and_what_is_missing_is_told(bench: Bench) -> None:
    """Capabilities, privileges, processes, init: preferred, so that a runtime without them still works."""
    status = bench.start()
    spec: ContainerSpec = bench.engine.containers()[0].spec

    assert (True, True, 4096, "default") == (spec.no_new_privileges, spec.init, spec.pids, spec.network)
    assert status.container is not None
    assert ("add_capabilities", "drop_capabilities") == status.container.not_enforced
    assert ("add_capabilities", "drop_capabilities") == bench.app.containers.unenforced()


def test_what_the_user_wrote_is_required(bench: Bench) -> None:
    """A runtime that cannot enforce it refuses, and nothing is left."""
    settings = ContainerDefaults(drop_capabilities=("NET_RAW",))
    config = attrs.evolve(bench.config, defaults=attrs.evolve(bench.config.defaults, container=settings))
    app = bench.open(loaded_as_written(config, "drop_capabilities"))
    app.projects.create("demo")
    with pytest.raises(UnsupportedError) as caught:
        app.containers.start("demo")
    with pytest.raises(UnsupportedError):
        app.containers.unenforced()

    assert "capabilities" == caught.value.capability
    assert [] == bench.engine.containers()


def loaded_as_written(config: Config, *names: str) -> LoadedConfig:
    """Return a configuration in whose file these settings of ``defaults.container`` stand."""
    return LoadedConfig(config=config, sources={("defaults", "container", name): Source.FILE for name in names})


# -- The workspace is ours ----------------------------------------------------------------------------------------


def test_an_engine_that_sees_another_workspace_is_found_out(bench: Bench, tmp_path: Path) -> None:
    """A remote engine mounts its own machine's directory of that name, and work would go astray."""
    other = tmp_path / "other"
    other.mkdir()

    class Elsewhere(FakeRuntime):
        """An engine on a machine where there is such a directory, but another one."""

        @hookimpl
        def create(self, spec: ContainerSpec) -> ContainerInfo:
            mounts = tuple(attrs.evolve(mount, source=str(other)) for mount in spec.mounts)
            return super().create(attrs.evolve(spec, mounts=mounts))

    app = bench.open(backend=Elsewhere(RuntimeSettings(), bench.engine))
    app.projects.create("demo")
    with pytest.raises(StartFailedError) as caught:
        app.containers.start("demo")

    assert "it runs elsewhere (fake: in memory, for tests)" in caught.value.message
    assert [] == bench.engine.containers()
    assert [] == list(other.iterdir())


def test_an_engine_that_lacks_the_directory_is_told_in_the_same_way(bench: Bench) -> None:
    """An engine on another machine most often has no such directory at all."""
    project = bench.app.projects.create("demo")
    missing = InvalidSpecError(f"bind mount source {project.workspace} does not exist")
    bench.engine.faults.add("create", error=missing)
    with pytest.raises(StartFailedError) as caught:
        bench.app.containers.start("demo")

    assert "it runs elsewhere" in caught.value.message
    assert isinstance(caught.value.__cause__, InvalidSpecError)
    assert [] == bench.engine.containers()


# -- Stopping -----------------------------------------------------------------------------------------------------


def test_stopping_is_idempotent_and_does_not_need_a_container(bench: Bench) -> None:
    """A created project, a stopped one, a running one."""
    bench.app.projects.create("never")
    bench.start()
    states = [bench.app.containers.stop(name).state for name in ("never", "demo", "demo")]

    assert ["absent", "exited", "exited"] == states


def test_an_active_session_forbids_stopping(bench: Bench) -> None:
    """It is listed, and the container runs on."""
    project = bench.start().project
    with Owner(bench.home.locks_dir) as owner:
        session = bench.app.sessions.begin(project, owner, kind=SessionKind.AGENT)
        with pytest.raises(ActiveSessionsError) as caught:
            bench.app.containers.stop("demo")
        status = bench.app.containers.get("demo")

    assert (session.id,) == caught.value.sessions == status.sessions
    assert "running" == status.state


def test_stopping_all_stops_what_runs_and_reports_each(bench: Bench) -> None:
    """One that cannot be stopped does not keep the others."""
    projects = {name: bench.start(name).project for name in ("a", "b", "c")}
    bench.app.projects.create("never")
    bench.app.containers.stop("a")
    with Owner(bench.home.locks_dir) as owner:
        bench.app.sessions.begin(projects["b"], owner, kind=SessionKind.AGENT)
        outcomes = bench.app.containers.stop_all()

    assert ["b", "c"] == [outcome.target for outcome in outcomes]
    assert isinstance(outcomes[0].error, ActiveSessionsError)
    assert outcomes[1].value is not None
    assert "exited" == outcomes[1].value.state


# -- Commands -----------------------------------------------------------------------------------------------------


def test_a_command_costs_one_engine_call(bench: Bench) -> None:
    """Nothing is looked up first: the name of the current container is known."""
    bench.start()
    bench.engine.calls.clear()
    result = bench.app.containers.exec("demo", FREE)

    assert (0, b"free\n") == (result.exit_code, result.stdout)
    assert {"exec": 1} == dict(bench.engine.calls)


def test_a_conversation_with_a_command(bench: Bench) -> None:
    """What agents and shells speak through."""
    bench.start()
    with bench.app.containers.open_exec("demo", ExecSpec(command=("/bin/sh", "-c", "read x; echo got $x"))) as process:
        process.stdin.write(b"it\n")
        printed = process.stdout.read(100)
        code = process.wait(5)

    assert (b"got it\n", 0) == (printed, code)


def test_without_a_running_container_the_error_says_how_to_start_it(bench: Bench) -> None:
    """In each of the ways in which there can be none."""
    bench.app.projects.create("never")
    bench.start()
    bench.app.containers.stop("demo")
    with pytest.raises(ContainerNotFoundError) as absent:
        bench.app.containers.exec("never", FREE)
    with pytest.raises(ContainerNotRunningError) as stopped:
        bench.app.containers.exec("demo", FREE)
    bench.engine.shut_down()
    with pytest.raises(ContainerNotFoundError) as removed:
        bench.app.containers.open_exec("demo", FREE)

    assert "project never has no container" == absent.value.message
    assert "the container of project demo is not running" == stopped.value.message
    assert "project demo has no container" == removed.value.message
    assert "oubliette container start demo" in stopped.value.hint


def test_logs_are_those_of_the_main_process(bench: Bench) -> None:
    """Of a stopped container too."""
    config = Config(
        containers={"loud": ContainerTypeConfig(image=DEV, command=("/bin/sh", "-c", "echo one; echo two; sleep 1000"))}
    )
    app = bench.open(LoadedConfig(config=config))
    app.projects.create("demo")
    app.containers.start("demo")
    app.containers.stop("demo")

    assert b"two\n" == b"".join(app.containers.logs("demo", LogSpec(tail=1)))
    assert b"one\ntwo\n" == b"".join(app.containers.logs("demo"))


# -- Looking ------------------------------------------------------------------------------------------------------


def test_all_projects_are_listed_with_one_engine_call(bench: Bench) -> None:
    """However many there are, sorted by name; containers of others are not among them."""
    bench.start("b")
    bench.start("a")
    bench.app.projects.create("c", container_type="dev")
    bench.app.runtime.create(ContainerSpec(image=DEV, name="foreign"))
    bench.engine.calls.clear()
    listed = bench.app.containers.list()

    assert [("a", "running", BASE), ("b", "running", BASE), ("c", "absent", DEV)] == [
        (status.project.name, status.state, status.image) for status in listed
    ]
    assert {"list_containers": 1} == dict(bench.engine.calls)


def test_another_home_on_the_same_engine_sees_nothing_of_this_one(bench: Bench) -> None:
    """Its containers have another home's label, also if a project id were the same."""
    status = bench.start()
    labels = {
        "dev.oubliette.home": "another",
        "dev.oubliette.project": status.project.id,
        "dev.oubliette.generation": "1",
    }
    other = bench.app.runtime.create(ContainerSpec(image=DEV, labels=labels))
    bench.app.containers.refresh("demo")
    bench.app.projects.delete("demo")

    assert [other.id] == [each.id for each in bench.engine.containers()]


def test_a_project_is_found_by_id_prefix_and_name(bench: Bench) -> None:
    """Everywhere in the same way."""
    project = bench.start().project
    found = [bench.app.containers.get(text).project.id for text in (project.id, project.id[:9], "demo", "DEMO")]
    with pytest.raises(ProjectNotFoundError):
        bench.app.containers.get("nowhere")

    assert [project.id] * 4 == found


def test_an_engine_that_is_gone_is_told(bench: Bench) -> None:
    """The error is the runtime's own, and works again when it is back."""
    bench.start()
    bench.engine.go_away()
    for operation in (bench.app.containers.get, bench.app.containers.start, bench.app.containers.stop):
        with pytest.raises(RuntimeUnavailableError):
            operation("demo")
    bench.engine.come_back()

    assert "running" == bench.app.containers.get("demo").state


def test_a_runtime_without_users_runs_containers_as_the_images_own(bench: Bench) -> None:
    """The preferred user is left out and told."""
    bench.engine.capabilities -= {Capability.USER}
    status = bench.start()

    assert "running" == status.state
