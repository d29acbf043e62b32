"""The images of a release: built natively for each architecture, and joined under the tags that people pull.

``build`` runs once on a machine of each architecture and pushes ``oubliette-base:VERSION-ARCHITECTURE`` and the dev
image that stands on it; ``publish`` runs once after them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from release.versions import ReleaseError, is_final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["ARCHITECTURES", "IMAGES", "build", "publish"]

IMAGES = ("base", "dev")
ARCHITECTURES = ("amd64", "arm64")


def build(registry: str, version: str, revision: str, *, containers: Path, options: Sequence[str] = ()) -> None:
    """Build both images for the engine's architecture, dev on this very base, and push them.

    :param registry: ``registry[/path]``; the docker CLI is logged in there.
    :raises ReleaseError: a step failed; what it said was printed.
    """
    architecture = _docker("version", "--format", "{{.Server.Arch}}")
    if architecture not in ARCHITECTURES:
        raise ReleaseError(f"nothing is released for {architecture}")
    names = {image: f"{registry}/oubliette-{image}:{version}-{architecture}" for image in IMAGES}
    for image, name in names.items():
        given = {"VERSION": version, "REVISION": revision}
        if image == "dev":
            given["BASE_IMAGE"] = names["base"]
        arguments = [word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")]
        _docker("build", *arguments, "--tag", name, *options, str(containers / image))
    for name in names.values():
        _docker("push", name)


def publish(registry: str, version: str, *, insecure: bool = False) -> dict[str, str]:
    """Make ``:VERSION`` and, for a final version, ``:latest`` of both images: one manifest for all architectures.

    :returns: the digest of the manifest by the image's name.
    :raises ReleaseError: the image of an architecture is missing, or a step failed.
    """
    plain = ["--insecure"] if insecure else []
    digests: dict[str, str] = {}
    for image in IMAGES:
        name = f"{registry}/oubliette-{image}"
        parts = [f"{name}:{version}-{architecture}" for architecture in ARCHITECTURES]
        for tag in (version, "latest") if is_final(version) else (version,):
            _docker("manifest", "create", *plain, "--amend", f"{name}:{tag}", *parts)
            # Without --purge the next release would be joined to this one's images.
            pushed = _docker("manifest", "push", *plain, "--purge", f"{name}:{tag}")
            found = re.search(r"sha256:[0-9a-f]{64}", pushed)
            if found is None:
                raise ReleaseError(f"no digest of {name}:{tag} was told: {pushed!r}")
            if digests.setdefault(name, found[0]) != found[0]:
                raise ReleaseError(f"{name}:{tag} is not what {name}:{version} is")
    return digests


def _docker(*words: str) -> str:
    """Run the docker CLI and return the last thing that it printed; errors and progress go to standard error."""
    # An attestation of its own beside each image would make an index of it, which cannot be joined to another.
    env = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    done = subprocess.run(["docker", *words], stdout=subprocess.PIPE, text=True, env=env, check=False)  # noqa: S607
    sys.stderr.write(done.stdout)
    if done.returncode:
        raise ReleaseError(f"docker {words[0]} ended with code {done.returncode}")
    return done.stdout.strip()
