"""Runtimes that are wrong about themselves, about what they declare, and in their errors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from oubliette_core.errors import (
    ContainerNotFoundError,
    RuntimeOperationError,
    StartFailedError,
)
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
    Cancel,
    Capability,
    ContainerInfo,
    ContainerSpec,
    ExecResult,
    ExecSpec,
    Probe,
)
from tests.conformance.saboteurs.base import Saboteur


class SlowProbe(Saboteur):
    """Takes more than the 2 s that a probe has."""

    caught_by = ("engine.probe",)
    _asked = 0

    @hookimpl
    def probe(self) -> Probe:
        self._asked += 1
        time.sleep(3.2 if self._asked > 1 else 0)
        return super().probe()


class FickleCapabilities(Saboteur):
    """Declares something else each time."""

    caught_by = ("engine.capabilities-stable",)
    _asked = 0

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        self._asked += 1
        return super().capabilities() - ({Capability.HOSTNAME} if self._asked % 2 else frozenset())


class LeakyCalls(Saboteur):
    """Keeps a descriptor open for each call."""

    caught_by = ("engine.calls-descriptors",)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        os.dup(0)
        return super().inspect(container)


class HangingInspect(Saboteur):
    """Never answers when it is asked about a container that does not exist."""

    caught_by = ("inspect.unknown", "errors.in-time")

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        try:
            return super().inspect(container)
        except ContainerNotFoundError:
            threading.Event().wait()
            raise


class SharedAnswers(Saboteur):
    """Gives one thread the answer of another."""

    caught_by = ("exec.together",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = ExecResult(exit_code=0)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        self._last = super().exec(container, spec, cancel)
        time.sleep(0.05)
        return self._last


class _Ignores(Saboteur):
    """Declares a setting and does not apply it."""

    ignored: ClassVar[Mapping[str, Any]]

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        return super().create(attrs.evolve(spec, **self.ignored))


class IgnoresPids(_Ignores):
    """Declares a limit of processes that it does not enforce."""

    caught_by = ("honesty.pids",)
    ignored: ClassVar = {"pids": None}


class IgnoresReadOnly(_Ignores):
    """Declares read-only containers that can be written to."""

    caught_by = ("honesty.read-only",)
    ignored: ClassVar = {"read_only": False}


class IgnoresPrivileges(_Ignores):
    """Declares that privileges cannot be gained, and lets them be."""

    caught_by = ("honesty.no-new-privileges", "honesty.preferred-enforced")
    ignored: ClassVar = {"no_new_privileges": False}


class IgnoresInit(_Ignores):
    """Declares an init process and starts none."""

    caught_by = ("honesty.init",)
    ignored: ClassVar = {"init": False}


class IgnoresNetwork(_Ignores):
    """Declares containers without a network that have one."""

    caught_by = ("honesty.network-none",)
    ignored: ClassVar = {"network": "default"}


class IgnoresHostname(_Ignores):
    """Declares host names and gives its own."""

    caught_by = ("honesty.hostname",)
    ignored: ClassVar = {"hostname": None}


class BoastsOfCapabilities(Saboteur):
    """Declares that Linux capabilities can be dropped, and drops none."""

    caught_by = ("honesty.capabilities",)

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities() | {Capability.CAPABILITIES}


class LeaksForeignErrors(Saboteur):
    """Raises what its engine's library raises."""

    caught_by = ("errors.only-ours", "inspect.unknown")

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        try:
            return super().inspect(container)
        except ContainerNotFoundError as error:
            raise KeyError(container) from error


class NamelessErrors(Saboteur):
    """Raises errors that do not say what they are about."""

    caught_by = ("errors.only-ours", "exec.unknown")

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        try:
            return super().exec(container, spec, cancel)
        except RuntimeOperationError as error:
            raise type(error)(str(error)) from error


class TalksOfSecrets(Saboteur):
    """Puts variables into its errors."""

    caught_by = ("inspect.no-secrets",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        try:
            return super().exec(container, spec, cancel)
        except RuntimeOperationError as error:
            raise type(error)(f"{error} ({dict(spec.env)})", runtime=error.runtime, subject=error.subject) from error


class LongErrors(Saboteur):
    """Prints a traceback into its errors."""

    caught_by = ("errors.one-line",)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        try:
            return super().start(container)
        except StartFailedError as error:
            raise StartFailedError(f"{error}\nTraceback:\n ...", runtime="fake", subject=container) from error
