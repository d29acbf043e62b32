"""The fake engine's images, and the registry in memory that it pulls them from."""

from __future__ import annotations

import functools
import json
import struct
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ImagePullError
from oubliette_core.reference import Reference
from oubliette_core.testing.fake.faults import Gate, Switchboard, renewed
from oubliette_core.testing.fake.kernel import MAGIC
from oubliette_core.testing.fake.programs import standard_programs
from oubliette_core.testing.images import File, Image, build_image, files_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oubliette_core.errors import PullFailure
    from oubliette_core.testing.images import Layer

__all__ = [
    "DEFAULT_PLATFORM",
    "VERSION_FILE",
    "FakeImage",
    "FakeRegistry",
    "full",
    "make_image",
    "pretended_busybox",
    "pull_error",
]

DEFAULT_PLATFORM = "linux/amd64"
VERSION_FILE = "/etc/image-version"
"""Where an image that was made with `make_image` has its version, for tests to read from inside."""
_BUSYBOX_SIZE = 256 * 1024
"""Some body, so that an image of it takes a moment on its way."""
_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"


def full(reference: str) -> str:
    """Return a reference in its full form, in which a digest wins over a tag; an image id stays as it is."""
    if reference.startswith("sha256:"):
        return reference
    parsed = Reference.parse(reference).normalised()
    return f"{parsed.name}@{parsed.digest}" if parsed.digest else str(parsed)


def pull_error(
    reference: str, reason: PullFailure, message: str, *, retryable: bool = False, hint: str = ""
) -> ImagePullError:
    """Return the error of a pull that failed."""
    return ImagePullError(
        f"{reference} cannot be pulled: {message}",
        reason=reason,
        retryable=retryable,
        runtime="fake",
        subject=reference,
        hint=hint,
    )


@attrs.frozen(kw_only=True, eq=False)
class FakeImage:
    """An image for one platform, with what containers need of its configuration.

    :param image: its layers and its configuration. :param shown: sizes of the layers that a pull shows.
    :param digest: digest that a registry knows it by: of an index where there is one.
    """

    image: Image
    digest: str
    shown: tuple[int, ...]

    @classmethod
    def of(cls, image: Image, *, digest: str = "", shown: tuple[int, ...] = ()) -> FakeImage:
        """Take an image as it is."""
        sizes = tuple(len(layer.data) for layer in image.layers)
        return cls(image=image, digest=digest or image.digest, shown=shown or sizes)

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        return json.loads(self.image.config)  # type: ignore[no-any-return]

    def _setting(self, name: str) -> Any:
        return (self._config.get("config") or {}).get(name)

    @property
    def id(self) -> str:
        """Content id: the digest of its configuration."""
        return self.image.image_id

    @property
    def platform(self) -> str:
        """``os/architecture[/variant]``."""
        return self.image.platform

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self.shown)

    @property
    def env(self) -> dict[str, str]:
        """Variables of its containers."""
        return dict(entry.partition("=")[::2] for entry in self._setting("Env") or ())

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What the command is given to."""
        return tuple(self._setting("Entrypoint") or ())

    @property
    def command(self) -> tuple[str, ...]:
        """What its containers run."""
        return tuple(self._setting("Cmd") or ())

    @property
    def workdir(self) -> str:
        """Working directory of its containers."""
        return self._setting("WorkingDir") or "/"

    @property
    def user(self) -> str:
        """Who its containers run as; empty for root."""
        return self._setting("User") or ""

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._setting("Labels") or {})

    @property
    def stop_signal(self) -> str:
        """What its containers are asked to stop with."""
        return self._setting("StopSignal") or "SIGTERM"

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self._config["created"]).astimezone(UTC)

    def layer_name(self, index: int) -> str:
        """Return the short id of a layer."""
        return self.image.layers[index].digest.partition(":")[2][:12]


@functools.cache
def _system_layer() -> Layer:
    """Return the layer that made images start from: the fake's programs, users and the usual directories."""
    directory = File(mode=0o755)
    paths = ("/bin", "/dev", "/etc", "/home", "/proc", "/root", "/sys", "/usr", "/usr/bin", "/usr/local", "/var")
    files: dict[str, File | bytes | str] = dict.fromkeys(paths, directory)
    temporary = File(mode=0o1777)
    files |= {"/usr/local/bin": directory, "/tmp": temporary, "/var/tmp": temporary}  # noqa: S108 - in the image
    files |= {"/etc/passwd": _USERS, "/etc/group": "root:x:0:\nnogroup:x:65534:\n"}
    for name in standard_programs():
        files[f"/bin/{name}"] = File(content=MAGIC + name.encode() + b"\n", mode=0o755)
    return files_layer(files)


def pretended_busybox() -> bytes:
    """Return what makers of images take for a busybox: the fake interprets its commands and executes nothing."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<H", header, 18, 62)  # x86-64
    names = ["[", "[[", *(name for name in standard_programs() if name != "[")]
    table = b"".join(b"\0" + name.encode() for name in names) + b"\0\0"
    return bytes(header) + table + bytes(_BUSYBOX_SIZE)


def make_image(
    version: str = "1",
    *,
    files: Mapping[str, bytes] | None = None,
    layers: Iterable[int] = (2_000_000, 1_000_000),
    bare: bool = False,
    command: Iterable[str] = ("sh",),
    **settings: Any,
) -> FakeImage:
    """Make an image without a registry.

    :param version: what is in its file `VERSION_FILE`; another one makes it another image.
    :param files: contents by absolute path; they can be executed. :param layers: two sizes that its pull shows.
    :param bare: it has nothing but ``files``, not even a shell.
    :param settings: ``entrypoint``, ``env``, ``user``, ``workdir``, ``labels``, ``stop_signal``, ``platform``,
        ``created``, as `oubliette_core.testing.images.build_image` takes them.
    """
    own: dict[str, File | bytes | str] = {} if bare else {VERSION_FILE: f"{version}\n"}
    own |= {path: File(content=data, mode=0o755) for path, data in (files or {}).items()}
    system = files_layer({}) if bare else _system_layer()
    image = build_image(system, files_layer(own), command=tuple(command), **settings)
    return FakeImage.of(image, shown=tuple(layers))


class FakeRegistry:
    """What can be pulled, and what goes wrong at it. Tests script it; nothing here uses a network.

    :ivar requests: how often each reference (in its full form) was asked for.
    """

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._published: dict[str, dict[str, FakeImage]] = {}
        self._errors: dict[str, list[tuple[BaseException, list[int]]]] = {}
        self._gates: dict[str, Gate] = {}
        self._delays: dict[str, float] = {}
        self.requests: Counter[str] = Counter()

    def publish(
        self, reference: str, version: str = "1", *, platforms: Iterable[str] = (DEFAULT_PLATFORM,), **settings: Any
    ) -> str:
        """Offer an image, or a new version of it, under a reference.

        :param settings: those of `make_image`. :returns: the digest of its manifest for the first platform.
        """
        images = [make_image(version, platform=platform, **settings) for platform in platforms]
        name = Reference.parse(reference).normalised().name
        with self._lock:
            self._published[full(reference)] = {image.platform: image for image in images}
            for image in images:
                self._published[f"{name}@{image.digest}"] = {image.platform: image}
        return images[0].digest

    def withdraw(self, reference: str) -> None:
        """Offer it no longer."""
        with self._lock:
            self._published.pop(full(reference), None)

    def fail(self, reference: str, error: BaseException, *, times: int | None = None) -> None:
        """Answer the next ``times`` pulls of a reference with ``error``; None for all of them.

        Errors that are added later follow those that were added before.
        """
        with self._lock:
            self._errors.setdefault(full(reference), []).append((error, [-1 if times is None else times]))

    def stall(self, reference: str) -> Gate:
        """Hold pulls of a reference up after their first event, until the gate is released or they are cancelled."""
        gate = self._gates[full(reference)] = Gate(self._board)
        return gate

    def slow(self, reference: str, delay: float) -> None:
        """Let ``delay`` seconds pass before each event of a pull."""
        self._delays[full(reference)] = delay

    def heal(self, reference: str) -> None:
        """Take back what was scripted for a reference."""
        with self._lock:
            self._errors.pop(full(reference), None)
            gate = self._gates.pop(full(reference), None)
            self._delays.pop(full(reference), None)
        if gate is not None:
            gate.release()

    # -- For the engine -------------------------------------------------------------------------------------------

    def knows(self, reference: str) -> bool:
        """Tell whether a reference was ever published or scripted here."""
        name = full(reference)
        with self._lock:
            return name in self._published or name in self._errors or name in self._gates

    def request(self, reference: str) -> None:
        """Count a request, and raise what was scripted for it."""
        with self._lock:
            self.requests[full(reference)] += 1
            for error, left in self._errors.get(full(reference), []):
                if left[0] != 0:
                    left[0] -= 1
                    raise renewed(error)

    def gate(self, reference: str) -> Gate | None:
        """Return what holds pulls of a reference up."""
        return self._gates.get(full(reference))

    def delay(self, reference: str) -> float:
        """Return the seconds before each event."""
        return self._delays.get(full(reference), 0.0)

    def find(self, reference: str, platform: str) -> FakeImage:
        """Return what is offered. :raises ImagePullError: nothing is, or not for this platform."""
        with self._lock:
            offered = dict(self._published.get(full(reference), {}))
        if not offered:
            hint = "Publish it first: fake.registry.publish(...)"
            raise pull_error(reference, "not_found", "it is not in the registry", hint=hint)
        if platform not in offered:
            listed = ", ".join(sorted(offered))
            raise pull_error(
                reference,
                "no_platform",
                f"it is not offered for {platform}, only for {listed}",
                hint=f"Choose: {listed}",
            )
        return offered[platform]
