"""Building images: the instructions of a Dockerfile, run in a container of the fake engine.

Source: the Dockerfile reference, https://docs.docker.com/reference/dockerfile. Left out, and refused: several stages,
``ADD``, ``HEALTHCHECK``, ``ONBUILD``, mounts of ``RUN``.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from oubliette_core.errors import ImageBuildError
from oubliette_core.models import ContainerSpec, ProgressEvent
from oubliette_core.testing.fake.archive import pack
from oubliette_core.testing.fake.container import FakeContainer
from oubliette_core.testing.fake.images import FakeImage
from oubliette_core.testing.fake.nodes import Identity
from oubliette_core.testing.images import Layer, build_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.models import BuildSpec, Cancel, ImageInfo, ProgressCallback
    from oubliette_core.testing.fake.engine import FakeEngine

__all__ = ["Build"]

_LAST_OUTPUT = 16 * 1024
_IGNORED = ("EXPOSE", "MAINTAINER", "VOLUME", "SHELL")


class Build:
    """One build under way: see `RuntimeSpec.build`."""

    def __init__(
        self, engine: FakeEngine, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._progress = progress
        self._cancel = cancel
        self._output = ""
        self._container: FakeContainer | None = None
        self._arguments: dict[str, str] = {}
        self._settings: dict[str, str] = {}
        self._env: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._argv: dict[str, tuple[str, ...]] = {"CMD": (), "ENTRYPOINT": ()}

    def run(self) -> ImageInfo:
        """Follow the instructions, and keep the image under its tag when all have been."""
        forget = self._cancel.on_cancel(self._kill) if self._cancel is not None else None
        try:
            for instruction, rest in self._instructions():
                self._check()
                self._say(f"{instruction} {rest}")
                self._follow(instruction, rest)
            self._check()
            return self._engine.images.add(self._spec.tag, self._image())
        except (OSError, ValueError, LookupError) as error:
            raise self._failure(str(error)) from error
        finally:
            if forget is not None:
                forget()
            self._kill()

    def _instructions(self) -> list[tuple[str, str]]:
        text = (self._spec.context / self._spec.dockerfile).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        whole = re.sub(r"\\\n", "", "\n".join(lines))
        found = [line.strip().partition(" ") for line in whole.splitlines() if line.strip()]
        return [(word.upper(), rest.strip()) for word, _, rest in found]

    def _follow(self, instruction: str, rest: str) -> None:
        steps: dict[str, Callable[[str], None]] = {
            "FROM": self._from,
            "ARG": self._arg,
            "ENV": lambda text: self._env.update(self._pairs(text)),
            "LABEL": lambda text: self._labels.update(self._pairs(text)),
            "RUN": self._run,
            "COPY": self._copy,
            "WORKDIR": self._workdir,
            "USER": lambda text: self._settings.update(user=self._filled(text)),
            "STOPSIGNAL": lambda text: self._settings.update(stop_signal=text),
            "CMD": lambda text: self._argv.update(CMD=_argv(text)),
            "ENTRYPOINT": lambda text: self._argv.update(ENTRYPOINT=_argv(text), CMD=()),
        }
        if instruction in steps:
            steps[instruction](rest)
        elif instruction not in _IGNORED:
            raise ValueError(f"the fake engine does not know {instruction}")

    # -- Instructions ---------------------------------------------------------------------------------------------

    def _from(self, rest: str) -> None:
        if self._container is not None:
            raise ValueError("the fake engine builds one stage only")
        name = self._filled(rest.split(maxsplit=1)[0])
        image = self._engine.images.find(name, self._spec.platform)
        self._container = FakeContainer(ContainerSpec(image=name), image, self._engine.programs, {})
        self._env, self._labels = dict(image.env), dict(image.labels)
        self._argv = {"CMD": image.command, "ENTRYPOINT": image.entrypoint}
        self._settings = {"user": image.user, "workdir": image.workdir, "stop_signal": image.stop_signal}

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self._arguments[name] = self._spec.build_args.get(name, value)

    def _run(self, rest: str) -> None:
        argv = tuple(json.loads(rest)) if rest.startswith("[") else ("/bin/sh", "-c", rest)
        code = self._base.run_to_end(
            argv,
            env={**self._arguments, **self._env},
            cwd=self._settings["workdir"],
            user=self._settings["user"],
            output=self,
            cancelled=self._is_cancelled,
        )
        self._check()
        if code != 0:
            raise ValueError(f"{rest!r} ended with code {code}")

    def _copy(self, rest: str) -> None:
        *sources, target = [word for word in shlex.split(self._filled(rest)) if not word.startswith("--")]
        target = str(PurePosixPath(self._settings["workdir"], target)) + ("/" if target.endswith("/") else "")
        for name in sources:
            if ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name} is not in the build's directory")
            source = self._spec.context / name.lstrip("/")
            into = target.endswith("/") or len(sources) > 1
            self._copy_one(source, f"{target.rstrip('/')}/{source.name}" if into and source.is_file() else target)

    def _copy_one(self, source: Path, target: str) -> None:
        files = self._base.files
        if source.is_dir():
            files.make_directory(target, parents=True)
            for below in sorted(source.iterdir()):
                self._copy_one(below, f"{target.rstrip('/')}/{below.name}")
            return
        files.make_directory(str(PurePosixPath(target).parent), parents=True)
        files.write(target, source.read_bytes())
        files.change_mode(target, stat.S_IMODE(source.stat().st_mode), Identity())

    def _workdir(self, rest: str) -> None:
        path = str(PurePosixPath(self._settings["workdir"], self._filled(rest)))
        self._base.files.make_directory(path, parents=True)
        self._settings["workdir"] = path

    def _pairs(self, text: str) -> dict[str, str]:
        words = shlex.split(self._filled(text))
        if words and "=" not in words[0]:
            return {words[0]: " ".join(words[1:])}
        return dict(word.partition("=")[::2] for word in words)

    def _filled(self, text: str) -> str:
        known = {**self._arguments, **self._env}
        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: known.get(match[1] or match[2], ""), text)

    # -- The result -----------------------------------------------------------------------------------------------

    @property
    def _base(self) -> FakeContainer:
        if self._container is None:
            raise ValueError("the first instruction has to be FROM")
        return self._container

    def _image(self) -> FakeImage:
        image = build_image(
            Layer.from_tar(pack(self._base.layer, "/"), compression=1),
            command=self._argv["CMD"],
            entrypoint=self._argv["ENTRYPOINT"],
            env=self._env,
            labels={**self._labels, **self._spec.labels},
            platform=self._base.image.platform,
            user=self._settings["user"],
            workdir=self._settings["workdir"],
            stop_signal=self._settings["stop_signal"],
        )
        return FakeImage.of(image)

    # -- Progress and failure -------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress(ProgressEvent(image=self._spec.tag, phase="building", detail=line))

    def append(self, data: bytes) -> None:
        """Take note of what a command prints."""
        text = data.decode("utf-8", "replace")
        self._output = (self._output + text)[-_LAST_OUTPUT:]
        for line in text.splitlines():
            self._say(line)

    def _kill(self) -> None:
        if self._container is not None:
            self._container.kill()

    def _is_cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.cancelled

    def _check(self) -> None:
        if self._is_cancelled():
            raise self._failure("it was cancelled")

    def _failure(self, reason: str) -> ImageBuildError:
        return ImageBuildError(
            f"building {self._spec.tag} failed: {reason}",
            output=self._output,
            runtime="fake",
            subject=self._spec.tag,
            hint="Look at the output.",
        )


def _argv(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text.startswith("[") else ("/bin/sh", "-c", text)
