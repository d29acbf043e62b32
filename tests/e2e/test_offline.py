"""Images on a real engine without their registry: from an archive, from a mirror, and held to a digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs

from oubliette_core.testing.upload import push
from tests.e2e.test_cli_docker import Installed, oubliette
from tests.engine import Engine
from tests.engine.dockerhttp import docker_request
from tests.engine.provide import engine_programs
from tests.images import ImageMaker, StartEngine

__all__ = ["oubliette"]

# Nobody listens there: whatever is asked of it fails.
NOWHERE = "127.0.0.1:9"
ROOT = Path(__file__).parents[2]


def _forget(engine: Engine, reference: str) -> None:
    docker_request(engine.docker_host, "DELETE", f"/images/{reference}?force=1")


def _run_project(oubliette: Installed) -> None:
    """Do the main job: a project whose container runs a command."""
    oubliette("project", "create", "demo")
    oubliette("container", "start", "demo")
    assert b"here\n" == oubliette("container", "exec", "demo", "--", "echo", "here")[0]


def test_a_loaded_archive_lets_a_project_run(
    oubliette: Installed, engine: Engine, images: ImageMaker, tmp_path: Path
) -> None:
    """On an engine that has lost the image, with a registry that is not there any more."""
    image = images.make()
    pushed = images.push_made(image)
    oubliette.configure({"base": pushed.reference})
    oubliette("init")
    archive = tmp_path / "images.tar"
    oubliette("image", "save", str(archive))
    _forget(engine, image.image_id)
    unreachable = pushed.reference.replace(engine.registry, NOWHERE)
    # The archive of a machine whose registry has that name.
    oubliette("image", "load", str(archive))
    config = json.dumps({"containers": {"base": unreachable}, "registries": {"mirrors": {NOWHERE: engine.registry}}})
    (oubliette.home / "config" / "oubliette.jsonc").write_text(config)

    assert oubliette.json("image", "list")[0]["local"] is not None
    _run_project(oubliette)


def test_a_machine_without_a_network_runs_what_was_carried_there(
    oubliette: Installed, images: ImageMaker, start_private_engine: StartEngine, tmp_path: Path
) -> None:
    """In a network namespace with nothing in it, on an engine of its own that has no image."""
    start_private_engine()  # or there is none to be had here, and this is skipped
    pushed = images.push(files={"/etc/carried": "by hand\n"})
    oubliette.configure({"base": pushed.reference})
    oubliette("init")
    archive, home = tmp_path / "images.tar", tmp_path / "there"
    oubliette("image", "save", str(archive))
    attrs.evolve(oubliette, home=home).configure({"base": pushed.reference})
    inside = 'ip link set lo up && exec "$@"'
    program = [sys.executable, "-m", "tests.e2e.cut_off", str(archive), str(home)]
    command = ["unshare", "--net", "--", "sh", "-c", inside, "sh", *program]
    env = {**os.environ, "PATH": engine_programs().search_path()}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr), done.stdout


def test_a_locked_image_runs_from_an_archive(
    oubliette: Installed, engine: Engine, images: ImageMaker, tmp_path: Path
) -> None:
    """An engine that loads an image knows no digest of it; it is found by the id in the lock."""
    image = images.make()
    oubliette.configure({"base": images.push_made(image).reference})
    oubliette("init", "--no-pull")
    oubliette("image", "lock")
    archive = tmp_path / "images.tar"
    oubliette("image", "save", str(archive))
    _forget(engine, image.image_id)
    assert oubliette.json("image", "list")[0]["local"] is None

    oubliette("image", "load", str(archive))
    _run_project(oubliette)


def test_a_lock_holds_a_project_to_its_image(oubliette: Installed, engine: Engine, images: ImageMaker) -> None:
    """The tag has moved on, and the image was lost: what is pulled is what was locked."""
    first = images.make(env={"GENERATION": "1"})
    pushed = images.push_made(first)
    oubliette.configure({"base": pushed.reference})
    oubliette("init", "--no-pull")
    locked = oubliette.json("image", "lock")["locked"]["base"]
    images.push_made(images.make(env={"GENERATION": "2"}))
    _forget(engine, first.image_id)
    _run_project(oubliette)

    assert f"{pushed.reference}@{pushed.digest}" == locked
    assert b"1\n" == oubliette("container", "exec", "demo", "--", "sh", "-c", "echo $GENERATION")[0]

    oubliette("image", "lock", "--update")
    oubliette("container", "refresh", "demo")
    assert b"2\n" == oubliette("container", "exec", "demo", "--", "sh", "-c", "echo $GENERATION")[0]


def test_a_mirror_stands_in_for_a_registry(oubliette: Installed, engine: Engine, images: ImageMaker) -> None:
    """The registry that the configuration names is not there."""
    image = images.make()
    pushed = images.push_made(image)
    space = pushed.repository.split("/")[0]
    push(image, engine.registry, f"{space}/copy/team/app", "v1")
    oubliette.configure({"base": f"{NOWHERE}/team/app:v1"})
    file = oubliette.home / "config" / "oubliette.jsonc"
    mirrors = {NOWHERE: f"{engine.registry}/{space}/copy"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "registries": {"mirrors": mirrors}}))
    oubliette("init")
    _run_project(oubliette)

    assert f"{engine.registry}/{space}/copy/team/app:v1" == oubliette.json("image", "list")[0]["image"]
