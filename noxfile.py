"""Every job of a contributor, as a nox session: ``nox -l`` lists them, ``nox -s NAME -- ARGUMENTS`` runs one.

``nox`` alone runs what must be green before a change lands. ``./dev test`` does the same, and needs no nox.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.16"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "wheels", "docs"]

ROOT = Path(__file__).parent
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")
PLUGINS = ("oubliette_docker", "oubliette_apple", "oubliette_embedded")
# One call for all: they depend on each other and none is in an index.
EDITABLE = ("-e", "./oubliette_core[server,testing]", *(part for p in PLUGINS for part in ("-e", f"./{p}")))
# The docs and the images have sessions of their own. Two processors are busy with two workers; whoever is done takes
# over from the other.
IN_PARALLEL = ("-n", "2", "--dist", "worksteal", "--ignore=tests/docs", "--ignore=tests/images_build")


def _group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group of the workspace."""
    return nox.project.dependency_groups(GROUPS, name)


def _pytest(session: nox.Session, *arguments: str) -> None:
    session.run("pytest", *arguments, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and which module may import which."""
    session.install(*EDITABLE, *_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo")
    for script in ("dev", "build.sh"):
        session.run("sh", "-n", script, external=True)
    session.run("zizmor", "--offline", ".github/workflows")


@nox.session
def types(session: nox.Session) -> None:
    """Check types of the source, the tests and this file."""
    session.install(*EDITABLE, *_group("typing"))
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and report their coverage; arguments go to pytest (``-- tests/core -k reference``)."""
    session.install(*EDITABLE, *_group("test"))
    _pytest(session, *IN_PARALLEL, "--cov", "--cov-report=term")


@nox.session
def wheels(session: nox.Session) -> None:
    """Build each distribution, install it with plain pip as a user would, and start the command."""
    session.install("build[uv]")
    home = Path(session.create_tmp())
    dist = home / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for name in ("oubliette_core", *PLUGINS):
        session.run("python", "-m", "build", "--installer", "uv", "--outdir", str(dist), name, silent=True)
    core, *plugins = (str(next(dist.glob(f"{name}-*.whl"))) for name in ("oubliette_core", *PLUGINS))

    # Bare core: no engine SDK and no server library is there, so an import of one fails here.
    listed = _as_user(session, home / "user", core)
    session.log(listed)
    # Each runtime alone with core, so that none leans on what another brings.
    for plugin in plugins:
        runtime = Path(plugin).name.split("-")[0].removeprefix("oubliette_")
        listed = _as_user(session, home / f"user-{runtime}", f"{core}[{runtime}]", plugin)
        if runtime not in listed:
            session.error(f"'oubliette runtime list' does not show {runtime}:\n{listed}")


def _as_user(session: nox.Session, environment: Path, *wheels: str) -> str:
    """Install wheels into a new environment with plain pip, and return what `oubliette runtime list` says there."""
    session.run("python", "-m", "venv", "--clear", str(environment))
    pip, oubliette = (str(environment / "bin" / name) for name in ("pip", "oubliette"))
    session.run(pip, "--disable-pip-version-check", "install", "--quiet", *wheels, external=True)
    session.run(pip, "check", external=True)
    session.run(oubliette, "--version", external=True)
    return str(session.run(oubliette, "runtime", "list", external=True, silent=True))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into ``build/site``, and check that what it and the README show is so."""
    session.install(*EDITABLE, *_group("docs"))
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", "build/site")
    _pytest(session, "-n", "2", "tests/docs")


@nox.session(default=False)
def images(session: nox.Session) -> None:
    """Build both shipped images on a Debian root file system made here, and look inside for what they promise."""
    session.install(*EDITABLE, *_group("test"))
    _pytest(session, "tests/images_build")


@nox.session(default=False)
def newest(session: nox.Session) -> None:
    """Run the tests with the newest release of every dependency, whatever upper bound we set."""
    session.install(*EDITABLE, *_group("test"))
    session.install("--upgrade", *_direct_dependencies())
    _pytest(session, *IN_PARALLEL)


@nox.session(default=False, venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """Run the tests with the oldest release of every dependency that we claim to work with."""
    session.install("--resolution", "lowest-direct", *EDITABLE, *_group("test"))
    _pytest(session, *IN_PARALLEL)


def _direct_dependencies() -> list[str]:
    """Name what the distributions depend on, without bounds and without each other."""
    found: set[str] = set()
    for name in ("oubliette_core", *PLUGINS):
        project = nox.project.load_toml(ROOT / name / "pyproject.toml")["project"]
        extras = project.get("optional-dependencies", {}).values()
        for requirement in [*project["dependencies"], *(line for extra in extras for line in extra)]:
            found.add(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
    return sorted(name for name in found if not name.startswith("oubliette-"))


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure against the raw engine, docker-py and the docker CLI, and print the ratios."""
    session.install(*EDITABLE, *_group("test"))
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Run the main job of the README on a real engine and show a transcript."""
    session.install(*EDITABLE, *_group("test"))
    session.run("python", "-m", "tests.demo", *session.posargs)


@nox.session(default=False)
def versions(session: nox.Session) -> None:
    """Run the conformance kit over the older and the newest emulated versions of Apple's command."""
    session.install(*EDITABLE, *_group("test"))
    _pytest(session, "-n", "2", "tests/apple/versions.py")


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Run the whole kit over every runtime that there is an engine for here, and write the page of capabilities."""
    session.install(*EDITABLE, *_group("test"))
    session.env["OUBLIETTE_TEST_FULL"] = "1"
    kits = {
        "docker": ("-n", "2", "tests/conformance/test_docker.py"),
        "apple": ("-n", "2", "tests/apple/test_conformance.py"),
        "podman": ("tests/e2e/test_third_party.py::test_the_whole_kit",),
    }
    reports = {name: str(Path(session.create_tmp()) / f"{name}.json") for name in kits}
    for name, arguments in kits.items():
        _pytest(session, f"--oubliette-report={reports[name]}", *arguments)
    session.run("python", "-m", "tests.docs.capabilities", *reports.values())


@nox.session(default=False)
def mac(session: nox.Session) -> None:
    """Run the conformance kit over Apple's own command, on a Mac where its service runs."""
    session.install(*EDITABLE, *_group("test"))
    _pytest(session, "tests/apple/on_a_mac.py")


@nox.session(default=False, venv_backend="none")
def full(session: nox.Session) -> None:
    """Run everything that needs no Mac: the default sessions, images, every version, the demo and the benchmark."""
    os.environ["OUBLIETTE_TEST_FULL"] = "1"  # no case is left out; notified sessions run in this process
    for name in (*(nox.options.sessions or ()), "images", "newest", "oldest", "versions", "demo", "bench"):
        session.notify(name)
