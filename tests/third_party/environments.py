"""Fresh environments, into which distributions are installed as wheels, as users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import attrs

__all__ = ["EXAMPLE", "ROOT", "Environment", "build_wheel", "write_wheel"]

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).with_name("oubliette-podman-example")
_UV = (sys.executable, "-m", "uv", "--quiet")


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a distribution."""
    _succeed(*_UV, "build", "--wheel", "--out-dir", str(folder), str(source))
    return next(folder.glob("*.whl"))


def write_wheel(folder: Path, distribution: str, source: str, entry_points: str) -> Path:
    """Write a wheel that has one module, named after the distribution, and entry points."""
    module = distribution.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    metadata = f"{module}-1.0.dist-info"
    content = {
        f"{module}.py": source,
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{metadata}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{metadata}/entry_points.txt": entry_points,
    }
    record = "".join(f"{name},,\n" for name in (*content, f"{metadata}/RECORD"))
    with ZipFile(path, "w") as wheel:
        for name, text in {**content, f"{metadata}/RECORD": record}.items():
            wheel.writestr(name, text)
    return path


@attrs.frozen(kw_only=True)
class Environment:
    """A virtual environment. :param environ: what its programs are run with."""

    folder: Path
    environ: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def create(cls, folder: Path) -> Environment:
        """Make an empty one, with the Python of the tests, and a home for Oubliette beside it."""
        _succeed(*_UV, "venv", "--python", sys.executable, str(folder / "venv"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OUBLIETTE_", "PYTHON"))}
        return cls(folder=folder, environ={**kept, "OUBLIETTE_HOME": str(folder / "home"), "HOME": str(folder)})

    def install(self, *what: str | Path) -> None:
        """Install wheels, directories or names, with what they need."""
        _succeed(*_UV, "pip", "install", "--python", str(self.folder / "venv"), *map(str, what))

    def distributions(self) -> set[str]:
        """Name what is installed."""
        listed = _succeed(*_UV, "pip", "list", "--python", str(self.folder / "venv"), "--format", "json")
        return {one["name"] for one in json.loads(listed)}

    def run(
        self,
        program: str,
        *words: str,
        code: int = 0,
        timeout: float = 110,
        environ: Mapping[str, str] | None = None,
    ) -> str:
        """Run a program of the environment from its folder; give what it printed, after looking at its exit code."""
        done = subprocess.run(
            [self.folder / "venv" / "bin" / program, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={**self.environ, **(environ or {})},
            timeout=timeout,
            check=False,
        )

        assert code == done.returncode, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def runtimes(self, environ: Mapping[str, str] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        """What ``oubliette runtime list`` says, by name and distribution."""
        listed = json.loads(self.run("oubliette", "runtime", "list", "--json", environ=environ))
        return {(one["name"], one["distribution"]): one for one in listed}


def _succeed(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout
