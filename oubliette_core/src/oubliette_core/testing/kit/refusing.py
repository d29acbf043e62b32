"""Errors: which, about what, and that nothing hostile reaches the backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from oubliette_core.errors import ContainerNotFoundError, InvalidValueError, OublietteError, RuntimeOperationError
from oubliette_core.models import Cancel, ExecSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.faults import Status
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import NeverEndedError, together
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import Maker, Stage
from oubliette_core.testing.kit.talk import drained

_HOSTILE_IDENTIFIERS: tuple[Any, ...] = (
    "",
    " ",
    ".",
    "..",
    "-",
    "--help",
    "-v/:/h",
    "../volumes/x",
    "../images/x",
    "..%2fvolumes",
    "a/b",
    "a b",
    "a\nb",
    "a\0b",
    "a;b",
    "$(id)",
    "a" * 300,
    "мир",
    None,
    7,
    ["a"],
)
_AT_ONCE = 10.0
"""Seconds that a call may take which has nothing to wait for; the contract's deadline is three times as long."""
_HOSTILE_PLATFORMS: tuple[Any, ...] = ("", "linux", "linux/", "../x", "linux/amd64;id", "--all", "Linux/AMD64", 7)


class RefusalCases(Cases):
    """What is refused, and how."""

    def test_errors_hostile_identifier(self, runtime: Runtime) -> None:
        relay = Relay(runtime)
        calls = _calls_with_container(relay.face())
        for value in _HOSTILE_IDENTIFIERS:
            for call in calls.values():
                with pytest.raises(InvalidValueError):
                    call(value)

        assert [] == relay.calls

    def test_errors_hostile_platform(self, runtime: Runtime, make: Maker) -> None:
        relay = Relay(runtime)
        face, reference = relay.face(), make.absent()
        for value in _HOSTILE_PLATFORMS:
            for call in (face.pull, face.exists, face.inspect_image):
                with pytest.raises(InvalidValueError):
                    call(reference, platform=value)

        assert [] == relay.calls

    def test_errors_reach_the_backend(self, runtime: Runtime, make: Maker) -> None:
        relay = Relay(runtime)
        calls = _calls_with_container(relay.face())
        name = make.name()
        for call in calls.values():
            try:
                call(name)
            except ContainerNotFoundError:
                continue

        assert list(calls) == relay.calls

    def test_errors_unknown_container(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        calls = _calls_with_container(runtime)
        del calls["remove"]  # what is not there is removed
        for call in calls.values():
            with pytest.raises(ContainerNotFoundError) as failed:
                call(name)
            error = failed.value

            assert (name, runtime.name) == (error.subject, error.runtime)
            assert name in str(error)

    def test_errors_in_time(self, runtime: Runtime, make: Maker, box: Box) -> None:
        stopped = runtime.stop(make.running().id, grace=0).id
        calls = _calls_with_container(runtime)
        for container, names in {
            make.name(): calls,
            stopped: ("inspect", "logs", "exec", "open_exec", "stop", "remove"),
            box.id: ("inspect", "logs", "exec", "start"),
        }.items():
            for name in names:
                started = time.monotonic()
                outcome = _outcome(lambda call=calls[name], which=container: call(which))  # type: ignore[misc]
                took = time.monotonic() - started

                assert not isinstance(outcome, NeverEndedError), (name, container)
                assert took < _AT_ONCE, (name, container)

    def test_errors_one_line(self, stage: Stage, runtime: Runtime, make: Maker, box: Box) -> None:
        texts = [str(error) for error in _failures(stage, runtime, make, box)]

        assert texts
        assert [] == [text for text in texts if not text.strip() or "\n" in text or len(text) > 1000]

    def test_errors_only_ours(self, stage: Stage, runtime: Runtime, make: Maker, box: Box) -> None:
        failures = _failures(stage, runtime, make, box)
        strangers = [error for error in failures if not isinstance(error, OublietteError)]
        nameless = [
            error
            for error in failures
            if isinstance(error, RuntimeOperationError) and not (error.runtime == runtime.name and error.subject)
        ]

        assert len(failures) > 10
        assert [] == strangers
        assert [] == nameless

    def test_errors_only_ours_in_a_rush(self, runtime: Runtime, make: Maker) -> None:
        container = make.created(name=make.name())
        calls: list[Callable[[], object]] = [
            lambda: runtime.start(container.id),
            lambda: runtime.exec(container.id, ExecSpec(command=("/bin/true",), timeout=20)),
            lambda: drained(runtime.logs(container.id)),
            lambda: runtime.inspect(container.id),
            lambda: runtime.stop(container.id, grace=0),
            lambda: runtime.remove(container.id, force=True),
        ]
        outcomes = together(calls * 4)
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]

        assert [] == [error for error in errors if not isinstance(error, RuntimeOperationError)]


def _calls_with_container(runtime: Runtime) -> dict[str, Callable[[Any], object]]:
    """Give every call that takes a container, by the hook's name."""
    spec = ExecSpec(command=("/bin/true",))
    return {
        "start": runtime.start,
        "stop": runtime.stop,
        "remove": lambda container: runtime.remove(container, force=True),
        "inspect": runtime.inspect,
        "logs": lambda container: drained(runtime.logs(container)),
        "exec": lambda container: runtime.exec(container, spec),
        "open_exec": lambda container: runtime.open_exec(container, spec),
    }


def _failures(stage: Stage, runtime: Runtime, make: Maker, box: Box) -> list[Exception]:
    """Make one call for each way in which calls fail; give what they raised."""
    name = make.name()
    taken = make.created(name=name)
    refused = make.publish()
    stage.registry.fail(refused.repository, Status(401))
    cancel = Cancel()
    cancel.cancel()
    failed = make.created("/no/such/command")
    calls: list[Callable[[], object]] = [
        *(lambda call=call: call(make.name()) for call in list(_calls_with_container(runtime).values())[3:]),
        lambda: runtime.start(make.name()),
        lambda: runtime.stop(make.name()),
        lambda: make.created(name=name),
        lambda: make.created(image=make.absent()),
        lambda: runtime.inspect_image(make.absent()),
        lambda: runtime.pull(make.absent()),
        lambda: runtime.pull(refused.reference),
        lambda: runtime.pull(f"{stage.nowhere()}/kit/app:latest"),
        lambda: runtime.pull(refused.reference, cancel=cancel),
        lambda: runtime.start(failed.id),
        lambda: runtime.exec(taken.id, ExecSpec(command=("/bin/true",))),
        lambda: box.run("/no/such/command"),
        lambda: box.run("/bin/true", workdir="/no/such/directory"),
        lambda: runtime.remove(box.id),
    ]
    outcomes = [_outcome(call) for call in calls]
    succeeded = [number for number, outcome in enumerate(outcomes) if outcome is None]

    assert [] == succeeded, "calls that had to fail did not"
    return [outcome for outcome in outcomes if outcome is not None]


def _outcome(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is: the case looks at it
        # The witness reports what is foreign; what it stands for is what the case is about.
        return (
            error.__cause__ if isinstance(error.__cause__, Exception) and isinstance(error, AssertionError) else error
        )
    return None
