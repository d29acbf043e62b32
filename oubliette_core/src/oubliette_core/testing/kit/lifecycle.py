"""Starting, stopping and removing containers: idempotent, and sure of what they report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.errors import (
    ContainerNotFoundError,
    InUseError,
    InvalidSpecError,
    RuntimeOperationError,
    StartFailedError,
)
from oubliette_core.models import ContainerInfo, ContainerStatus, ExecResult
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import UNTIL_TOLD, Box
from oubliette_core.testing.kit.calls import SLACK, eventually, start, together
from oubliette_core.testing.kit.stage import Maker, Stage, unique

_GRACE = 1.0
_KILLED = 128 + 9


class StartingCases(Cases):
    """start."""

    def test_containers_start(self, runtime: Runtime, make: Maker) -> None:
        container = make.created()
        started = runtime.start(container.id)

        assert (container.id, ContainerStatus.RUNNING) == (started.id, started.status)
        assert ContainerStatus.RUNNING == runtime.inspect(container.id).status
        assert "at once" == Box(runtime, container.id).says("echo at once")

    def test_containers_start_alive(self, runtime: Runtime, make: Maker) -> None:
        started = runtime.start(make.created().id)

        # Looked at from inside, before anything else gives the process time to come up.
        assert "S" in Box(runtime, started.id).status("State", "1")
        assert [started.id] == [info.id for info in make.listed(running_only=True)]

    def test_containers_start_twice(self, runtime: Runtime, make: Maker) -> None:
        box = make.running(*_count_starts())
        again = runtime.start(box.id)

        assert (box.id, True) == (again.id, again.running)
        assert "1" == box.says("wc -l < /kit/starts")

    def test_containers_start_together(self, runtime: Runtime, make: Maker) -> None:
        container = make.created(*_count_starts()).id
        outcomes = together([lambda: runtime.start(container)] * 8)

        assert [True] * 8 == [isinstance(one, ContainerInfo) and one.running for one in outcomes], outcomes
        assert "1" == Box(runtime, container).says("wc -l < /kit/starts")

    def test_containers_start_by_name(self, runtime: Runtime, make: Maker) -> None:
        container = make.created(name=make.name())

        assert container.id == runtime.start(container.name).id
        assert container.id == runtime.stop(container.name).id
        assert runtime.remove(container.name)

    def test_containers_start_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        with pytest.raises(ContainerNotFoundError) as failed:
            runtime.start(name)

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_containers_start_no_command(self, runtime: Runtime, make: Maker) -> None:
        _does_not_start(runtime, make, "/no/such/command")

    def test_containers_start_no_command_init(self, runtime: Runtime, make: Maker) -> None:
        _does_not_start(runtime, make, "/no/such/command", init=True)

    def test_containers_start_exits(self, runtime: Runtime, make: Maker) -> None:
        container = make.created("/bin/sh", "-c", "echo why it ended >&2; exit 3")
        with pytest.raises(StartFailedError) as failed:
            runtime.start(container.id)
        seen = runtime.inspect(container.id)

        assert make.stage.exit_code(3) == failed.value.exit_code
        assert failed.value.subject in (container.id, container.name)
        assert b"why it ended" in failed.value.output
        assert (ContainerStatus.EXITED, make.stage.exit_code(3)) == (seen.status, seen.exit_code)

    def test_containers_start_bind_gone(self, runtime: Runtime, make: Maker, kit_folder: Path) -> None:
        folder = kit_folder / "goes"
        folder.mkdir()
        container = make.created(mounts=(make.bind(folder),))
        folder.rmdir()
        try:
            runtime.start(container.id)
        except (StartFailedError, InvalidSpecError):
            pass
        else:
            pytest.fail("a container was started without what it mounts")

        assert not runtime.inspect(container.id).running


class StoppingCases(Cases):
    """stop, and the end of a main process."""

    def test_containers_stop(self, runtime: Runtime, make: Maker) -> None:
        box = _listening(make, "trap 'exit 0' TERM")
        stopped = runtime.stop(box.id)
        expected = (ContainerStatus.EXITED, make.stage.exit_code(0))

        assert expected == (stopped.status, stopped.exit_code)
        assert expected == (box.inspect().status, box.inspect().exit_code)

    def test_containers_stop_signal(self, runtime: Runtime, make: Maker) -> None:
        box = _listening(make, "trap 'echo told; exit 5' TERM")
        stopped = runtime.stop(box.id)

        assert make.stage.exit_code(5) == stopped.exit_code
        assert b"ready\ntold\n" == _printed(box)

    def test_containers_stop_signal_of_image(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        image = make.pulled(stage.image(stop_signal="SIGUSR1")).reference
        box = _listening(make, "trap 'echo TERM; exit 6' TERM; trap 'echo USR1; exit 7' USR1", image=image)
        stopped = runtime.stop(box.id)

        assert stage.exit_code(7) == stopped.exit_code
        assert b"ready\nUSR1\n" == _printed(box)

    def test_containers_stop_kills(self, runtime: Runtime, make: Maker) -> None:
        box = _listening(make, "trap '' TERM")
        started = time.monotonic()
        stopped = runtime.stop(box.id, grace=_GRACE)
        took = time.monotonic() - started

        assert (ContainerStatus.EXITED, make.stage.exit_code(_KILLED)) == (stopped.status, stopped.exit_code)
        assert _GRACE <= took < _GRACE + 5

    def test_containers_stop_at_once(self, runtime: Runtime, make: Maker) -> None:
        box = _listening(make, "trap '' TERM")
        started = time.monotonic()
        stopped = runtime.stop(box.id, grace=0)
        took = time.monotonic() - started

        assert ContainerStatus.EXITED == stopped.status
        assert took < 5

    def test_containers_stop_twice(self, runtime: Runtime, make: Maker) -> None:
        box = _listening(make, "trap 'exit 4' TERM")
        first, second = runtime.stop(box.id), runtime.stop(box.id)

        assert (ContainerStatus.EXITED, ContainerStatus.EXITED) == (first.status, second.status)
        assert [make.stage.exit_code(4)] * 2 == [first.exit_code, second.exit_code]

    def test_containers_stop_created(self, runtime: Runtime, make: Maker) -> None:
        container = make.created()

        assert ContainerStatus.CREATED == runtime.stop(container.id).status
        assert ContainerStatus.CREATED == runtime.inspect(container.id).status

    def test_containers_stop_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        with pytest.raises(ContainerNotFoundError) as failed:
            runtime.stop(name)

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_containers_restart(self, runtime: Runtime, make: Maker, kit_folder: Path) -> None:
        box = make.running(mounts=(make.bind(kit_folder),))
        box.says("echo kept > /shared/file")
        runtime.stop(box.id, grace=0)
        again = runtime.start(box.id)

        assert (box.id, True, None) == (again.id, again.running, again.exit_code)
        assert "kept" == box.says("cat /shared/file")

    def test_containers_restart_layer(self, runtime: Runtime, make: Maker) -> None:
        box = make.running()
        box.says("echo kept > /kit/file")
        runtime.stop(box.id, grace=0)
        runtime.start(box.id)

        assert "kept" == box.says("cat /kit/file")

    def test_containers_stop_ends_exec(self, runtime: Runtime, make: Maker) -> None:
        box = make.running()
        _ends(box, lambda: runtime.stop(box.id, grace=_GRACE))

    def test_containers_exit(self, make: Maker) -> None:
        box = make.running("/bin/sh", "-c", f"{UNTIL_TOLD} exit 42")
        box.tell()
        eventually(lambda: not box.inspect().running)
        seen = box.inspect()

        assert (ContainerStatus.EXITED, 42) == (seen.status, seen.exit_code)

    def test_containers_oom(self, make: Maker) -> None:
        memory = 48 * 1024 * 1024
        box = make.running("/bin/sh", "-c", f"{UNTIL_TOLD} exec tail /dev/zero", memory=memory)
        box.tell()
        eventually(lambda: not box.inspect().running, 30)
        seen = box.inspect()

        assert (ContainerStatus.EXITED, _KILLED, True) == (seen.status, seen.exit_code, seen.oom_killed)

    def test_containers_no_oom(self, runtime: Runtime, make: Maker) -> None:
        stopped = runtime.stop(make.running().id, grace=0)

        assert stopped.oom_killed is False


class RemovingCases(Cases):
    """remove."""

    def test_containers_remove_created(self, runtime: Runtime, make: Maker) -> None:
        _removed(runtime, make, make.created().id, force=False)

    def test_containers_remove_stopped(self, runtime: Runtime, make: Maker) -> None:
        _removed(runtime, make, runtime.stop(make.running().id, grace=0).id, force=False)

    def test_containers_remove_running(self, runtime: Runtime, make: Maker) -> None:
        _removed(runtime, make, make.running().id, force=True)

    def test_containers_remove_in_use(self, runtime: Runtime, make: Maker) -> None:
        box = make.running()
        with pytest.raises(InUseError) as failed:
            runtime.remove(box.id)

        assert failed.value.subject in (box.id, box.inspect().name)
        assert runtime.name == failed.value.runtime
        assert box.inspect().running

    def test_containers_remove_twice(self, runtime: Runtime, make: Maker) -> None:
        container = make.created().id

        assert [True, False] == [runtime.remove(container), runtime.remove(container)]

    def test_containers_remove_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()

        assert [False, False] == [runtime.remove(name, force=force) for force in (False, True)]

    def test_containers_remove_together(self, runtime: Runtime, make: Maker) -> None:
        box = make.running()
        outcomes = together([lambda: runtime.remove(box.id, force=True)] * 8)

        assert [True] * 8 == [isinstance(outcome, bool) for outcome in outcomes], outcomes
        assert True in outcomes
        assert [] == make.listed()

    def test_containers_remove_no_other(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        other = make.running(name=f"{name}-2")
        make.running(name=name)
        runtime.remove(name, force=True)

        assert [other.id] == [info.id for info in make.listed(running_only=True)]

    def test_containers_remove_ends_exec(self, runtime: Runtime, make: Maker) -> None:
        box = make.running()
        _ends(box, lambda: runtime.remove(box.id, force=True))

    def test_containers_lifecycle_storm(self, runtime: Runtime, make: Maker) -> None:
        container = make.created().id
        storm = [lambda: runtime.start(container), lambda: runtime.stop(container, grace=0)] * 4
        outcomes = together(storm)
        wrong = [one for one in outcomes if not isinstance(one, (ContainerInfo, RuntimeOperationError))]
        after = runtime.start(container)

        assert [] == wrong
        assert after.running
        assert "works" == Box(runtime, container).says("echo works")


def _count_starts() -> tuple[str, ...]:
    return ("/bin/sh", "-c", "echo started >> /kit/starts; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")


def _listening(make: Maker, traps: str, **fields: str) -> Box:
    """Run a main process that waits for signals; it has said that it is ready for them."""
    box = make.running("/bin/sh", "-c", f"{traps}; echo ready; while :; do sleep 1000 & wait; done", **fields)

    assert eventually(lambda: _printed(box)) == b"ready\n"
    return box


def _printed(box: Box) -> bytes:
    return b"".join(box.runtime.logs(box.id))


def _does_not_start(runtime: Runtime, make: Maker, command: str, **fields: bool) -> None:
    container = make.created(command, **fields)
    with pytest.raises(StartFailedError) as failed:
        runtime.start(container.id)

    assert failed.value.subject in (container.id, container.name)
    assert runtime.name == failed.value.runtime
    assert not runtime.inspect(container.id).running


def _removed(runtime: Runtime, make: Maker, container: str, *, force: bool) -> None:
    assert runtime.remove(container, force=force) is True
    assert [] == make.listed()
    with pytest.raises(ContainerNotFoundError):
        runtime.inspect(container)


def _ends(box: Box, act: Callable[[], object]) -> None:
    """See that a command which runs ends when its container does, and never as a success."""
    mark = unique()
    exec_ = start(lambda: box.run("/bin/sleep", mark), "an exec")

    assert box.wait_for_process(mark)
    asked = time.monotonic()
    act()
    outcome = exec_.outcome(15)
    took = time.monotonic() - asked

    assert isinstance(outcome, (ExecResult, RuntimeOperationError)), outcome
    assert not (isinstance(outcome, ExecResult) and outcome.exit_code in (0, None)), outcome
    assert took < _GRACE + 10 + SLACK
