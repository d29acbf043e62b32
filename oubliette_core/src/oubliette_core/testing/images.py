"""Small images, made without an engine and without a network.

An image is a value here: layers and a configuration, from which its manifest and its digests follow. The same
arguments always give the same digests. `docker_archive` writes what `docker load` reads, `upload.push` uploads to a
registry, and `FaultRegistry.add` serves without uploading.

    image = busybox_image(labels={"version": "1"})
    push(image, "127.0.0.1:5000", "team/tool", tag="v1")

Formats follow the OCI image specification and Docker's "Image Manifest V 2, Schema 2". Standard library only.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import struct
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "BusyboxNotFoundError",
    "File",
    "Image",
    "Index",
    "Layer",
    "build_image",
    "busybox_image",
    "busybox_layer",
    "digest_of",
    "docker_archive",
    "files_layer",
    "find_busybox",
    "random_layer",
]

Format = Literal["docker", "oci"]

_EPOCH = "1970-01-01T00:00:00Z"
_MEDIA_TYPES: dict[Format, dict[str, str]] = {
    "docker": {
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "index": "application/vnd.docker.distribution.manifest.list.v2+json",
        "config": "application/vnd.docker.container.image.v1+json",
        "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
    "oci": {
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "index": "application/vnd.oci.image.index.v1+json",
        "config": "application/vnd.oci.image.config.v1+json",
        "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    },
}
_USERS = (
    "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
)
_GROUPS = "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"
_ARCHITECTURES = {62: "amd64", 183: "arm64"}  # e_machine of an ELF file


class BusyboxNotFoundError(Exception):
    """There is no statically linked busybox to make an image from; the message says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A regular file, a directory (`content` is None) or a symbolic link (`link`) in a layer."""

    content: bytes | None = None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A gzipped tar archive; `diff_id` is the digest of what is inside the gzip."""

    data: bytes = dataclasses.field(repr=False)
    diff_id: str

    @classmethod
    def from_tar(cls, tar: bytes, *, compression: int = 6) -> Layer:
        """Make a layer of an uncompressed tar archive."""
        return cls(gzip.compress(tar, compresslevel=compression, mtime=0), digest_of(tar))

    @property
    def digest(self) -> str:
        """The digest of the compressed layer, by which a registry knows it."""
        return digest_of(self.data)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """One image for one platform, in either format."""

    config: bytes
    layers: tuple[Layer, ...]
    platform: str
    format: Format = "docker"

    @property
    def image_id(self) -> str:
        """The digest of the configuration: the id that a Docker Engine shows (unless it keeps images in containerd)."""
        return digest_of(self.config)

    @property
    def media_type(self) -> str:
        """The manifest's media type."""
        return _MEDIA_TYPES[self.format]["manifest"]

    @property
    def manifest(self) -> bytes:
        """The manifest, byte for byte as it is uploaded."""
        types = _MEDIA_TYPES[self.format]
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": types["manifest"],
                "config": _descriptor(types["config"], self.config),
                "layers": [_descriptor(types["layer"], layer.data) for layer in self.layers],
            }
        )

    @property
    def digest(self) -> str:
        """The manifest's digest, for references of the form `name@sha256:...`."""
        return digest_of(self.manifest)

    def blobs(self) -> dict[str, bytes]:
        """Give the configuration and the layers by their digests."""
        return {digest_of(blob): blob for blob in (self.config, *(layer.data for layer in self.layers))}

    def images(self) -> tuple[Image, ...]:
        """Give the image alone: what `Index.images` gives for several platforms."""
        return (self,)


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms under one name."""

    members: tuple[Image, ...]
    format: Format = "docker"

    @property
    def media_type(self) -> str:
        """The index's media type."""
        return _MEDIA_TYPES[self.format]["index"]

    @property
    def manifest(self) -> bytes:
        """The index, byte for byte as it is uploaded."""
        entries = [
            {**_descriptor(image.media_type, image.manifest), "platform": _platform_fields(image.platform)}
            for image in self.members
        ]
        return _json({"schemaVersion": 2, "mediaType": self.media_type, "manifests": entries})

    @property
    def digest(self) -> str:
        """The index's digest."""
        return digest_of(self.manifest)

    def blobs(self) -> dict[str, bytes]:
        """Give the blobs of all members by their digests."""
        return {digest: blob for image in self.members for digest, blob in image.blobs().items()}

    def images(self) -> tuple[Image, ...]:
        """Give the members."""
        return self.members


def digest_of(data: bytes) -> str:
    """Give the digest `sha256:...` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files_layer(files: Mapping[str, File | bytes | str], *, compression: int = 6) -> Layer:
    """Make a layer of files by their absolute paths; bytes and text are the content of a plain readable file.

    Parent directories must be named, or exist in a layer below. `compression` is gzip's, from 0 (none) to 9.
    """
    return Layer.from_tar(_tar(files), compression=compression)


def busybox_layer(binary: bytes, applets: Iterable[str] | None = None) -> Layer:
    """Make the layer that a small system starts from: busybox, its commands, users and the usual directories.

    There are users root, agent (1000, with a home) and nobody (65534). `applets` are the commands to link; all that
    this busybox has when None, and none but `sh` for an image in which almost nothing is found when `("sh",)`.
    """
    directory = File(mode=0o755)
    directories = ("/bin", "/dev", "/etc", "/home", "/proc", "/sys", "/usr", "/usr/bin")
    files: dict[str, File | bytes | str] = dict.fromkeys(directories, directory)
    files |= {
        "/root": File(mode=0o700),
        "/tmp": File(mode=0o1777),  # noqa: S108 - a directory of the image, not of this machine
        "/home/agent": File(mode=0o700, uid=1000, gid=1000),
        "/etc/passwd": _USERS,
        "/etc/group": _GROUPS,
        "/bin/busybox": File(content=binary, mode=0o755),
        "/usr/bin/env": File(link="/bin/busybox"),
    }
    names = sorted(applets_of(binary)) if applets is None else list(applets)
    files |= {f"/bin/{name}": File(link="busybox") for name in names if name != "busybox"}
    return files_layer(files)


def random_layer(megabytes: float, seed: str) -> Layer:
    """Make a layer with one file that does not compress; another `seed` gives another layer of the same size."""
    content = random.Random(seed).randbytes(int(megabytes * 1024 * 1024))  # noqa: S311 - must be repeatable
    name = f"/random-{hashlib.sha256(seed.encode()).hexdigest()[:12]}"
    return Layer.from_tar(_tar({name: content}), compression=0)


def build_image(
    *layers: Layer,
    command: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "",
    labels: Mapping[str, str] | None = None,
    stop_signal: str = "",
    platform: str = "linux/amd64",
    created: str = _EPOCH,
    format: Format = "docker",  # noqa: A002 - the field's own word
) -> Image:
    """Make an image of layers, lowest first. `platform` is `os/architecture[/variant]`, `created` RFC 3339."""
    settings = {
        "Cmd": list(command),
        "Entrypoint": list(entrypoint),
        "Env": [f"{name}={value}" for name, value in (env or {}).items()],
        "User": user,
        "WorkingDir": workdir,
        "Labels": dict(labels or {}),
        "StopSignal": stop_signal,
    }
    config = {
        **_platform_fields(platform),
        "created": created,
        "config": {name: value for name, value in settings.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": f"layer {number}"} for number in range(len(layers))],
    }
    return Image(config=_json(config), layers=layers, platform=platform, format=format)


def busybox_image(
    busybox: Path | None = None,
    *,
    files: Mapping[str, File | bytes | str] | None = None,
    layers: Sequence[Layer] = (),
    applets: Iterable[str] | None = None,
    **settings: Any,
) -> Image:
    """Make a complete small image: busybox, then a layer of `files`, then `layers`.

    `settings` are those of `build_image`; the platform is busybox's own unless another is given, the command is one
    that runs until it is told to stop. Raises `BusyboxNotFoundError`.
    """
    binary = (busybox or find_busybox()).read_bytes()
    own = files_layer({"/etc/oubliette-image": "made for tests\n", **(files or {})})
    idle = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do /bin/busybox sleep 3600 & wait $!; done"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **settings.pop("env", {})}
    defaults = {"command": idle, "platform": f"linux/{_architecture(binary)}", "env": environment}
    return build_image(busybox_layer(binary, applets), own, *layers, **{**defaults, **settings})


def find_busybox(given: Path | None = None) -> Path:
    """Find a statically linked busybox: `given`, `OUBLIETTE_TEST_BUSYBOX`, on PATH, or among the tests' packages.

    Raises `BusyboxNotFoundError`.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oubliette-tests"
    named = (given, os.environ.get("OUBLIETTE_TEST_BUSYBOX"), shutil.which("busybox"))
    for candidate in (*(Path(name) for name in named if name), *cache.glob("*/root/bin/busybox")):
        if candidate.is_file() and _is_static(candidate.read_bytes()):
            return candidate
    raise BusyboxNotFoundError(
        "No statically linked busybox was found. On Debian or Ubuntu type: apt-get install busybox-static; "
        "elsewhere set OUBLIETTE_TEST_BUSYBOX to the path of one."
    )


def applets_of(binary: bytes) -> list[str]:
    """Read the names of the commands out of a busybox, without running it (it may be for another machine)."""
    start = binary.find(b"\0[\0[[\0") + 1
    if start == 0:
        raise BusyboxNotFoundError("this busybox does not contain the usual table of command names")
    return binary[start : binary.index(b"\0\0", start)].decode("ascii").split("\0")


def docker_archive(images: Mapping[str, Image]) -> bytes:
    """Give the archive that `docker load` reads, with `images` by the references to tag them with."""
    files: dict[str, File | bytes | str] = {}
    entries = []
    for reference, image in images.items():
        names = [f"{layer.diff_id.partition(':')[2]}.tar" for layer in image.layers]
        files |= {name: gzip.decompress(layer.data) for name, layer in zip(names, image.layers, strict=True)}
        config = f"{image.image_id.partition(':')[2]}.json"
        files[config] = image.config
        entries.append({"Config": config, "RepoTags": [reference], "Layers": names})
    return _tar({**files, "manifest.json": _json(entries)})


def _tar(files: Mapping[str, File | bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, given in files.items():
            file = given if isinstance(given, File) else File(content=_bytes(given))
            archive.addfile(_tar_entry(path, file), io.BytesIO(file.content or b""))
    return buffer.getvalue()


def _tar_entry(path: str, file: File) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.mode, entry.uid, entry.gid = file.mode, file.uid, file.gid
    if file.link is not None:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.link, 0o777
    elif file.content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(file.content)
    return entry


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(data), "digest": digest_of(data)}


def _platform_fields(platform: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


def _architecture(binary: bytes) -> str:
    machine: int = struct.unpack_from("<H", binary, 18)[0]
    return _ARCHITECTURES.get(machine, "amd64")


def _is_static(binary: bytes) -> bool:
    """Tell whether a 64-bit little-endian ELF file asks for no interpreter, so that it runs in an empty image."""
    if binary[:6] != b"\x7fELF\x02\x01":
        return False
    table, size, count = struct.unpack_from("<Q", binary, 32)[0], *struct.unpack_from("<HH", binary, 54)
    interpreter = 3
    return all(struct.unpack_from("<I", binary, table + number * size)[0] != interpreter for number in range(count))
