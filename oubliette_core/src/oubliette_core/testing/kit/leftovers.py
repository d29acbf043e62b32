"""Nothing is left behind. These cases come last."""

from __future__ import annotations

from pathlib import Path

from oubliette_core.models import LABEL_HOME
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.calls import eventually
from oubliette_core.testing.kit.stage import Maker, Stage, unique


class LeftoverCases(Cases):
    """What is there when everything has been removed."""

    def test_leftovers_processes(self, runtime: Runtime, make: Maker) -> None:
        mark = unique()
        box = make.running()
        box.shell('setsid sleep "$1" >/dev/null 2>&1 & env -i sleep "$1" >/dev/null 2>&1 &', mark)
        before = box.processes(mark)
        runtime.remove(box.id, force=True)

        assert before >= 1
        assert [] == _on_this_machine(mark)

    def test_leftovers_containers(self, stage: Stage, runtime: Runtime) -> None:
        stage.leave()
        left = [(info.name, info.labels) for info in runtime.list_containers({LABEL_HOME: stage.home})]

        assert [] == left

    def test_leftovers_images(self, stage: Stage, runtime: Runtime) -> None:
        stage.leave()
        left = [image for image in stage.images if runtime.exists(image)]

        assert stage.images
        assert [] == left


def _on_this_machine(mark: str) -> list[str]:
    """Wait until no process of this machine has ``mark`` among its arguments; list those that have."""
    eventually(lambda: not _marked(mark))
    return _marked(mark)


def _marked(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if mark.encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found
