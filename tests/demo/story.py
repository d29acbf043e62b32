"""What the demo does."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.demo.stage import Stage
from tests.demo.transcript import Transcript


class Images:
    """The demo's images, in the stage's registry. A label makes them different from all others."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._label = secrets.token_hex(4)

    def publish(self, name: str, version: str) -> str:
        """Push a version of an image; return its reference, which is the same for each."""
        told = f"{name} {version}"
        files = {"/etc/version": f"{told}\n"}
        image = self._stage.make(files=files, seed=told, labels={"dev.oubliette.demo": self._label})
        return self._stage.publish(image, name)


def tell(stage: Stage) -> None:
    """Run the demo. Raises `DemoError` when something does not come out as it has to."""
    images = Images(stage)
    with tempfile.TemporaryDirectory(prefix="oubliette-demo-") as directory:
        home = Path(directory) / "home"
        transcript = Transcript({**stage.environ, "OUBLIETTE_HOME": str(home)}, Path(directory))
        _set_up(transcript, images, home)
        with _projects(transcript):
            _work(transcript)
            _renew(transcript, images)
            transcript.chapter("5. Stopping")
            transcript.run("container", "stop", "--all")
            transcript.run("container", "list", "--all")
        transcript.run("project", "list")


def _set_up(transcript: Transcript, images: Images, home: Path) -> None:
    transcript.chapter("1. Setting up: container types of one's own, and everything pulled in advance")
    types = {"base": images.publish("base", "1"), "ml": {"image": images.publish("ml", "1"), "pull": "always"}}
    file = home / "config" / "oubliette.jsonc"
    file.parent.mkdir(parents=True)
    home.chmod(0o700)
    file.write_text(json.dumps({"containers": types}, indent=2), encoding="utf-8")
    file.chmod(0o600)
    transcript.show(f"cat {file}", file.read_text(encoding="utf-8"))
    transcript.run("init")
    transcript.run("doctor")


@contextmanager
def _projects(transcript: Transcript) -> Iterator[None]:
    transcript.chapter("2. Two projects of different types")
    transcript.run("project", "create", "web")
    transcript.run("project", "create", "trainer", "--type", "ml")
    try:
        transcript.run("container", "start", "web", "trainer")
        transcript.run("container", "list")
        yield
    finally:
        transcript.chapter("6. Deleting")
        transcript.run("project", "delete", "web", "--yes")
        transcript.run("project", "delete", "trainer", "--yes")


def _work(transcript: Transcript) -> None:
    transcript.chapter("3. Working in them")
    script = 'echo "I am $(id -un) on $(hostname), in $(pwd)"; cat /etc/version'
    transcript.read("container", "exec", "web", "--", "sh", "-c", script, expected="base 1")
    transcript.note("Exit codes are the command's own, and a deadline kills the whole process tree.")
    transcript.run("container", "exec", "web", "--", "sh", "-c", "exit 7", code=7)
    transcript.run("container", "exec", "--timeout", "1", "web", "--", "sleep", "1000", code=124)


def _renew(transcript: Transcript, images: Images) -> None:
    transcript.chapter("4. A newer image under the same tag")
    transcript.read("container", "exec", "trainer", "--", "cat", "/etc/version", expected="ml 1")
    transcript.run("container", "exec", "trainer", "--", "sh", "-c", "echo epoch 3 >/workspace/progress")
    transcript.note("Elsewhere, somebody pushes version 2.")
    images.publish("ml", "2")
    transcript.run("container", "refresh", "trainer")
    transcript.note("The container is a new one, of the new image; the workspace is the same.")
    transcript.read("container", "exec", "trainer", "--", "cat", "/etc/version", expected="ml 2")
    transcript.read("container", "exec", "trainer", "--", "cat", "/workspace/progress", expected="epoch 3")
