"""A Debian root file system to build on, where no image can be pulled."""

import io
import subprocess
import tarfile
from pathlib import Path

from tests.engine.packages import unpacked

SUITE = "bookworm"
# What the makers of the slim image leave out.
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
_TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")


def make_parent(archive: Path) -> None:
    """Write the root file system of Debian 12 into a tar archive.

    It trusts the certificate authorities that this machine trusts: a build inside goes through the same proxies.
    """
    programs = unpacked(("mmdebstrap",))
    program = programs.find("mmdebstrap")
    assert program is not None
    env = programs.environment()
    if programs.root is not None:
        env["PERL5LIB"] = str(programs.root / "usr/share/perl5")
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    command = [str(program), "--variant=minbase", "--mode=root", "--format=tar", *excluded, SUITE, str(archive)]
    subprocess.run(command, env=env, check=True)
    _trust(archive)


def _trust(archive: Path) -> None:
    """Add this machine's certificate authorities where the package ca-certificates takes up local ones."""
    ends = "-----END CERTIFICATE-----\n"
    found = _TRUSTED.read_text(encoding="ascii").split(ends)[:-1]
    with tarfile.open(archive, "a") as tar:
        for number, text in enumerate(found):
            data = (text[text.index("-----BEGIN") :] + ends).encode()
            entry = tarfile.TarInfo(f"./usr/local/share/ca-certificates/machine-{number:03}.crt")
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
