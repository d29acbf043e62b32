"""The engine behind a runtime: found, described, let go."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.errors import OublietteError, RuntimeUnavailableError, UnsupportedError
from oubliette_core.hookspecs import OPTIONAL_HOOKS
from oubliette_core.models import BuildSpec, Capability, ExecSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import SLACK, together
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import Maker, Stage

_ROUNDS = 10


class EngineCases(Cases):
    """probe, capabilities, close, and calls from several threads."""

    def test_engine_probe(self, runtime: Runtime) -> None:
        started = time.monotonic()
        probe = runtime.probe()
        took = time.monotonic() - started

        assert probe.available
        assert probe.version
        assert took < 2 + SLACK

    def test_engine_capabilities_stable(self, runtime: Runtime) -> None:
        first, second = runtime.capabilities(), runtime.capabilities()

        assert first == second
        assert isinstance(first, frozenset)
        assert set() == {one for one in first if not isinstance(one, Capability)}

    def test_engine_complete(self, runtime: Runtime) -> None:
        assert frozenset() == runtime.missing_hooks

    def test_engine_optional_hooks(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        missing = {
            name: capability
            for name, call in _optional_calls(runtime, stage, make).items()
            if (capability := OPTIONAL_HOOKS[name]) in stage.capabilities and _unsupported(call)
        }

        assert {} == missing

    def test_engine_optional_hooks_undeclared(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        relay = Relay(runtime, frozenset(OPTIONAL_HOOKS.values()))
        calls = _optional_calls(relay.face(), stage, make)

        assert set(OPTIONAL_HOOKS) == set(calls)
        for name, call in calls.items():
            with pytest.raises(UnsupportedError) as refused:
                call()

            assert OPTIONAL_HOOKS[name].value == refused.value.capability
        assert [] == relay.calls

    def test_engine_close_twice(self, stage: Stage) -> None:
        runtime = stage.make_runtime()
        runtime.probe()
        runtime.close()
        runtime.close()

    def test_engine_call_after_close(self, stage: Stage) -> None:
        runtime = stage.make_runtime()
        runtime.close()
        try:
            listed = runtime.list_containers({"dev.oubliette.kit.case": "nobody's"})
        except RuntimeUnavailableError:
            listed = ()
        finally:
            runtime.close()

        assert () == listed

    def test_engine_close_descriptors(self, stage: Stage, make: Maker) -> None:
        absent = make.absent()

        def use_and_close() -> None:
            with stage.make_runtime() as runtime:
                runtime.probe()
                runtime.exists(absent)
                runtime.list_containers({"dev.oubliette.kit.case": "nobody's"})

        assert _descriptors_left_by(use_and_close) < _ROUNDS // 2

    def test_engine_calls_descriptors(self, runtime: Runtime, box: Box) -> None:
        def use() -> None:
            runtime.exec(box.id, ExecSpec(command=("/bin/true",)))
            runtime.inspect(box.id)
            b"".join(runtime.logs(box.id))

        assert _descriptors_left_by(use) < _ROUNDS // 2

    def test_engine_threads(self, runtime: Runtime, box: Box, make: Maker) -> None:
        absent = make.absent()
        calls: list[Callable[[], object]] = [
            lambda: runtime.inspect(box.id).id,
            lambda: runtime.exists(absent),
            lambda: {info.id for info in runtime.list_containers(running_only=True)} >= {box.id},
        ]
        outcomes = together([call for call in calls for _ in range(8)])

        assert [*[box.id] * 8, *[False] * 8, *[True] * 8] == outcomes


def _optional_calls(runtime: Runtime, stage: Stage, make: Maker) -> dict[str, Callable[[], object]]:
    """Call each optional hook with arguments that do no harm, when the hook is there."""
    folder = stage.folder / f"optional-{make.name()}"
    folder.mkdir()
    archive = folder / "archive.tar"
    archive.write_bytes(b"not an archive")
    absent, nobody = make.absent(), make.name()
    return {
        "build": lambda: runtime.build(BuildSpec(context=folder, dockerfile="absent", tag=absent)),
        "copy_in": lambda: runtime.copy_in(nobody, "/kit", io.BytesIO(b"not an archive")),
        "copy_out": lambda: b"".join(runtime.copy_out(nobody, "/kit")),
        "remove_image": lambda: runtime.remove_image(absent),
        "load_images": lambda: runtime.load_images(archive),
        "save_images": lambda: runtime.save_images((absent,), folder / "saved.tar"),
    }


def _unsupported(call: Callable[[], object]) -> bool:
    with contextlib.suppress(OublietteError):
        try:
            call()
        except UnsupportedError:
            return True
    return False


def _descriptors_left_by(call: Callable[[], object]) -> int:
    """Tell how many descriptors are open after many calls that were not open after the first."""
    call()
    before = _descriptors()
    for _ in range(_ROUNDS):
        call()
    return _descriptors() - before


def _descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))
