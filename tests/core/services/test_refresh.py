"""Refresh has one moment from which the new container counts.

Whatever happens before or after it, exactly one container of the project is left, and it runs.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import attrs
import pytest

from oubliette_core.config import Config, ContainerTypeConfig, LoadedConfig
from oubliette_core.errors import (
    ActiveSessionsError,
    BusyError,
    ContainerNotFoundError,
    ImageNotFoundError,
    ImagePullError,
    NameConflictError,
    OperationCancelledError,
    OublietteError,
    RuntimeLostError,
    RuntimeUnavailableError,
    StartFailedError,
    UnknownContainerTypeError,
)
from oubliette_core.models import Cancel, ContainerSpec, ContainerStatus, ExecSpec, PullPolicy
from oubliette_core.services.owners import Owner
from oubliette_core.services.records import SessionKind, SessionState
from tests.core.services.conftest import BASE, DEV
from tests.core.services.steps import Steps, watch_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.services.conftest import Bench


def generations(bench: Bench) -> list[tuple[str, ContainerStatus]]:
    """Return generation and status of every container on the engine."""
    return [(each.spec.labels["dev.oubliette.generation"], each.info().status) for each in bench.engine.containers()]


RUNNING = ContainerStatus.RUNNING


def test_the_new_container_has_the_new_image_and_the_old_files(bench: Bench) -> None:
    """Workspace and HOME stay, what is beside them goes, and the result says what changed."""
    before = bench.start()
    bench.run("demo", "echo w > /workspace/w; echo h > $HOME/h; echo x > /tmp/x")
    bench.registry.publish(BASE, "2", files={"/etc/version": b"2"})
    result = bench.app.containers.refresh("demo")
    found = bench.run("demo", "cat /workspace/w $HOME/h /etc/version; [ -e /tmp/x ] || echo gone")

    assert "w\nh\n2gone\n" == found
    assert (True, False, True) == (result.image_changed, result.skipped, result.was_running)
    assert before.container is not None
    assert result.status.container is not None
    assert (before.container.image_id, result.status.container.image_id) == (result.previous_image_id, result.image_id)
    assert [("2", RUNNING)] == generations(bench)
    assert (2, "") == (result.status.project.generation, result.status.project.pending)


def test_an_unchanged_image_is_told_and_the_container_replaced_all_the_same(bench: Bench) -> None:
    """A refresh is also how to get a clean container."""
    bench.start()
    result = bench.app.containers.refresh("demo")

    assert (False, False) == (result.image_changed, result.skipped)
    assert [("2", RUNNING)] == generations(bench)


def test_if_changed_leaves_the_container_alone_when_the_image_is_the_same(bench: Bench) -> None:
    """Not even stopped for a moment; when the image is another, it is replaced."""
    bench.start()
    first = bench.app.containers.refresh("demo", if_changed=True)
    between = generations(bench)
    bench.registry.publish(BASE, "2")
    second = bench.app.containers.refresh("demo", if_changed=True)

    assert (True, False) == (first.skipped, first.image_changed)
    assert [("1", RUNNING)] == between
    assert (False, True) == (second.skipped, second.image_changed)
    assert [("2", RUNNING)] == generations(bench)


def test_a_stopped_container_is_replaced_and_started(bench: Bench) -> None:
    """The result says that it was not running."""
    bench.start()
    bench.app.containers.stop("demo")
    result = bench.app.containers.refresh("demo")

    assert not result.was_running
    assert [("2", RUNNING)] == generations(bench)


def test_without_a_container_there_is_nothing_to_refresh(bench: Bench) -> None:
    """Nothing is pulled for it either."""
    bench.app.projects.create("demo")
    with pytest.raises(ContainerNotFoundError) as caught:
        bench.app.containers.refresh("demo")

    assert "oubliette container start demo" in caught.value.hint
    assert 0 == bench.engine.calls["pull"]


@pytest.mark.parametrize("kind", list(SessionKind))
def test_an_active_session_forbids_it_and_nothing_is_touched(bench: Bench, kind: SessionKind) -> None:
    """Not the container, and not the image; once the session is over it works."""
    project = bench.start().project
    bench.registry.publish(BASE, "2")
    pulls = bench.engine.calls["pull"]
    with Owner(bench.home.locks_dir) as owner:
        session = bench.app.sessions.begin(project, owner, kind=kind)
        with pytest.raises(ActiveSessionsError) as caught:
            bench.app.containers.refresh("demo")
        untouched = generations(bench)
        bench.app.sessions.update(session.id, SessionState.ENDED)
        bench.app.containers.refresh("demo")

    assert (session.id,) == caught.value.sessions
    assert [("1", RUNNING)] == untouched
    assert pulls + 1 == bench.engine.calls["pull"]
    assert [("2", RUNNING)] == generations(bench)


def test_a_session_that_begins_during_the_pull_is_seen(bench: Bench) -> None:
    """Much can happen while an image of gigabytes is on its way."""
    project = bench.start().project
    gate = bench.registry.stall(BASE)
    caught: list[OublietteError] = []

    def refresh() -> None:
        try:
            bench.app.containers.refresh("demo")
        except OublietteError as error:
            caught.append(error)

    thread = threading.Thread(target=refresh)
    thread.start()
    assert gate.reached.wait(10)
    with Owner(bench.home.locks_dir) as owner:
        session = bench.app.sessions.begin(project, owner, kind=SessionKind.AGENT)
        gate.release()
        thread.join()

    assert [(session.id,)] == [error.sessions for error in caught if isinstance(error, ActiveSessionsError)]
    assert [("1", RUNNING)] == generations(bench)


def test_the_container_works_on_while_the_image_is_pulled(bench: Bench) -> None:
    """No lock is held for it: commands run, and the project can be stopped and started."""
    bench.start()
    gate = bench.registry.stall(BASE)
    thread = threading.Thread(target=bench.app.containers.refresh, args=("demo",))
    thread.start()
    assert gate.reached.wait(10)
    printed = bench.run("demo", "echo still here")
    bench.app.containers.stop("demo")
    bench.app.containers.start("demo")
    gate.release()
    thread.join()

    assert "still here\n" == printed
    assert [("2", RUNNING)] == generations(bench)


def test_a_pull_that_fails_leaves_all_as_it_was(bench: Bench) -> None:
    """The error is the pull's own."""
    bench.start()
    error = ImagePullError("no", reason="unauthorized", runtime="fake", subject=BASE)
    bench.registry.fail(BASE, error)
    with pytest.raises(ImagePullError) as caught:
        bench.app.containers.refresh("demo")

    assert "unauthorized" == caught.value.reason
    assert [("1", RUNNING)] == generations(bench)


@pytest.mark.parametrize("dev", [True, False])
def test_where_nothing_may_be_pulled_the_local_image_is_required(bench: Bench, dev: bool) -> None:
    """In dev mode, and with policy never: a newer local image is taken, an absent one is an error, no network."""
    policy = PullPolicy.MISSING if dev else PullPolicy.NEVER
    config = attrs.evolve(bench.config, containers={"dev": ContainerTypeConfig(image=DEV, pull=policy)})
    app = bench.open(LoadedConfig(config=config, dev=dev))
    app.projects.create("demo")
    app.containers.start("demo")
    bench.engine.add_image(DEV, "2")
    result = app.containers.refresh("demo")
    absent = attrs.evolve(bench.config, containers={"dev": ContainerTypeConfig(image="absent:1", pull=policy)})
    with pytest.raises(ImageNotFoundError):
        bench.open(LoadedConfig(config=absent, dev=dev)).containers.refresh("demo")

    assert result.image_changed
    assert 0 == bench.engine.calls["pull"]
    assert [("2", RUNNING)] == generations(bench)


def test_a_type_that_is_no_longer_configured_cannot_be_refreshed_or_started(bench: Bench) -> None:
    """Everything that needs no image still works."""
    bench.start()
    config = Config(containers={"other": ContainerTypeConfig(image=DEV), "third": ContainerTypeConfig(image=DEV)})
    app = bench.open(LoadedConfig(config=config))
    errors = []
    for operation in (app.containers.refresh, app.containers.start):
        with pytest.raises(UnknownContainerTypeError) as caught:
            operation("demo")
        errors.append(caught.value.valid_types)
    listed = app.containers.list()
    printed = bench.run("demo", "echo works")
    app.containers.stop("demo")
    app.projects.delete("demo")

    assert [("other", "third")] * 2 == errors
    assert [("demo", "running", "")] == [(status.project.name, status.state, status.image) for status in listed]
    assert "works\n" == printed
    assert [] == generations(bench)


def test_a_new_container_that_ends_at_once_is_removed_and_the_old_one_runs_on(bench: Bench) -> None:
    """A broken image must not take the working container away."""
    bench.start()
    bench.registry.publish(BASE, "2", bare=True)
    with pytest.raises(StartFailedError):
        bench.app.containers.refresh("demo")
    printed = bench.run("demo", "echo still here")
    project = bench.app.projects.get("demo")

    assert "still here\n" == printed
    assert [("1", RUNNING)] == generations(bench)
    assert (1, "") == (project.generation, project.pending)


def test_a_foreign_container_of_that_name_is_not_touched(bench: Bench) -> None:
    """It is somebody else's; the error says so, and the old one runs on."""
    project = bench.start().project
    name = f"oubliette-{bench.home.id[:6]}-{project.id}-g2"
    foreign = bench.app.runtime.create(ContainerSpec(image=DEV, name=name))
    with pytest.raises(NameConflictError):
        bench.app.containers.refresh("demo")

    assert bench.app.runtime.inspect(foreign.id).name == name
    assert "1" in dict(generations_of(bench, project.id))


def generations_of(bench: Bench, project_id: str) -> list[tuple[str, ContainerStatus]]:
    """Return generation and status of a project's containers."""
    found = bench.app.runtime.list_containers({"dev.oubliette.project": project_id})
    return [(info.labels["dev.oubliette.generation"], info.status) for info in found]


def test_a_container_left_by_an_attempt_of_long_ago_makes_way(bench: Bench) -> None:
    """An engine can take its time with what a client that died had asked for."""
    project = bench.start().project
    labels = {
        "dev.oubliette.home": bench.home.id,
        "dev.oubliette.project": project.id,
        "dev.oubliette.generation": "2",
        "dev.oubliette.attempt": "try_aaaaaaaaaaaa",
    }
    name = f"oubliette-{bench.home.id[:6]}-{project.id}-g2"
    stale = bench.app.runtime.create(ContainerSpec(image=DEV, name=name, labels=labels))
    result = bench.app.containers.refresh("demo")

    assert result.status.container is not None
    assert stale.id != result.status.container.id
    assert [("2", RUNNING)] == generations(bench)


def test_two_refreshes_at_once_follow_each_other(bench: Bench) -> None:
    """Every outcome is that of some order, and one container is left."""
    bench.start()
    threads = [threading.Thread(target=bench.app.containers.refresh, args=("demo",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [("5", RUNNING)] == generations(bench)


def test_commands_during_a_refresh_run_in_the_old_container_or_the_new(bench: Bench) -> None:
    """None finds the project without a container."""
    bench.start()
    stop = threading.Event()
    failed: list[OublietteError] = []
    ended: set[int | None] = set()

    def work() -> None:
        while not stop.is_set():
            try:
                result = bench.app.containers.exec("demo", ExecSpec(command=("/bin/sh", "-c", "echo x")))
            except RuntimeLostError:
                continue  # its container was taken away while it ran
            except OublietteError as error:
                failed.append(error)
                return
            ended.add(result.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(5):
        bench.app.containers.refresh("demo")
    stop.set()
    thread.join()

    assert [] == failed
    assert ended <= {0, 137}
    assert [("6", RUNNING)] == generations(bench)


def test_a_project_that_another_process_works_on_is_busy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends, and nothing was touched."""
    project = bench.start().project
    monkeypatch.setattr(bench.app._locks, "_wait", 0.1)
    with bench.app._locks.hold(project.id), pytest.raises(BusyError):
        bench.app.containers.refresh("demo")

    assert [("1", RUNNING)] == generations(bench)


@pytest.mark.parametrize("moment", ["before pull", "after pull", "after create", "after start", "before exec"])
def test_cancelled_before_the_new_one_counts_the_old_one_stays(bench: Bench, moment: str) -> None:
    """Ctrl-C at any moment of a refresh, and nothing has happened."""
    bench.start()
    cancel = Cancel()
    watched = Steps(lambda _, name: cancel.cancel() if name == moment else None)
    with pytest.raises((OperationCancelledError, ImagePullError)):
        bench.open(wrapper=watched).containers.refresh("demo", cancel=cancel)
    project = bench.app.projects.get("demo")

    assert [("1", RUNNING)] == generations(bench)
    assert (1, "") == (project.generation, project.pending)


# -- Every step of it ---------------------------------------------------------------------------------------------


def lost(number: int, name: str) -> OublietteError:
    """Return the error of a call whose reply never came."""
    return RuntimeLostError(f"lost at step {number}: {name}", runtime="fake")


def unavailable(number: int, name: str) -> OublietteError:
    """Return the error of an engine that is not there."""
    return RuntimeUnavailableError(f"gone at step {number}: {name}", runtime="fake")


def interrupted(number: int, name: str) -> BaseException:
    """Return what Ctrl-C raises."""
    return KeyboardInterrupt(f"at step {number}: {name}")


class Refreshing:
    """A refresh that is broken off at one step.

    :ivar error: what it raised. :ivar steps: the steps that were seen.
    """

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, last: int, error: BaseException | None) -> None:
        def on_step(number: int, _name: str) -> None:
            if number == last and error is not None:
                raise error

        watched = Steps(on_step)
        self.steps = watched.seen
        self.error: BaseException | None = None
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", watch_store(watched))
            app = bench.open(wrapper=watched)
            try:
                app.containers.refresh("demo")
            except BaseException as caught:  # noqa: BLE001 - that is what is asked
                self.error = caught


def steps_of_a_refresh(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the steps of a refresh that succeeds."""
    refreshing = Refreshing(bench, monkeypatch, -1, None)
    assert refreshing.error is None
    return refreshing.steps


@pytest.mark.parametrize("make_error", [lost, unavailable, interrupted])
def test_broken_off_at_any_step_the_next_command_finds_one_running_container(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, make_error: Callable[[int, str], BaseException]
) -> None:
    """Before the commit it is the old one, from then on the new one; and the record agrees."""
    bench.start()
    steps = steps_of_a_refresh(bench, monkeypatch)
    commit = steps.index("after UPDATE projects SET generation = ?") + 2
    assert "after COMMIT" == steps[commit]
    for number, name in enumerate(steps):
        bench.app.projects.delete("demo")
        bench.start()
        refreshing = Refreshing(bench, monkeypatch, number, make_error(number, name))
        (status,) = bench.app.containers.list()
        # A lost pull is tried again, and a lost create looked for: with these the refresh goes on.
        expected = 1 if number < commit and refreshing.error else 2

        assert steps[: number + 1] == refreshing.steps[: number + 1]
        assert number >= commit or refreshing.error or make_error is lost, name
        assert [(str(expected), RUNNING)] == generations(bench), name
        assert (expected, "running") == (status.project.generation, status.state), name
        assert "here\n" == bench.run("demo", "echo here")


def test_a_reply_that_is_lost_after_the_create_is_made_up_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container of this very attempt is there: it is taken, and the refresh goes on."""
    bench.start()
    number = steps_of_a_refresh(bench, monkeypatch).index("after create")
    refreshing = Refreshing(bench, monkeypatch, number, lost(number, "after create"))

    assert refreshing.error is None
    assert [("3", RUNNING)] == generations(bench)


def test_an_interrupted_create_is_waited_for_by_the_next_commands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container may still appear, and is removed when it does."""
    project = bench.start().project
    number = steps_of_a_refresh(bench, monkeypatch).index("before create")
    Refreshing(bench, monkeypatch, number, interrupted(number, "before create"))
    waiting = bench.app.containers.get("demo").project.pending
    labels = {
        "dev.oubliette.home": bench.home.id,
        "dev.oubliette.project": project.id,
        "dev.oubliette.generation": "3",
        "dev.oubliette.attempt": waiting,
    }
    bench.app.runtime.create(ContainerSpec(image=DEV, labels=labels))
    after = bench.app.containers.get("demo").project

    assert waiting.startswith("try_")
    assert (2, "") == (after.generation, after.pending)
    assert [("2", RUNNING)] == generations(bench)


def test_recovery_is_left_to_whoever_is_at_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap that is under way in another process must not lose its new container to a command that only looks."""
    project = bench.start().project
    during: list[list[tuple[str, ContainerStatus]]] = []

    def on_step(_number: int, name: str) -> None:
        if name == "after start":
            bench.app.containers.list()
            bench.run("demo", "echo works")
            during.append(generations(bench))

    bench.open(wrapper=Steps(on_step)).containers.refresh(project.name)

    assert [[("1", RUNNING), ("2", RUNNING)]] == during
    assert [("2", RUNNING)] == generations(bench)


def test_a_container_that_cannot_be_removed_now_is_removed_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one counts, so the refresh has succeeded; the next command clears up."""
    bench.start()
    number = steps_of_a_refresh(bench, monkeypatch).index("before remove")
    refreshing = Refreshing(bench, monkeypatch, number, unavailable(number, "before remove"))
    left = generations(bench)
    bench.run("demo", "echo x")

    assert refreshing.error is None
    assert [("2", RUNNING), ("3", RUNNING)] == left
    assert [("3", RUNNING)] == generations(bench)
