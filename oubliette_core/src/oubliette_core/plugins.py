"""Finding, checking, choosing and loading runtimes.

Runtimes are entry points of group ``oubliette.runtimes`` (name: the runtime's name; value: its class). Other names
for one are entry points of group ``oubliette.aliases`` (name: the other name; value: the runtime's name). Wrappers
are entry points of group ``oubliette.wrappers``.

Every plugin loads inside a guard of its own: one that is broken is reported and never hides the others. A runtime
that is asked for by name is the only one imported.
"""

from __future__ import annotations

import difflib
import enum
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs
import pluggy

from oubliette_core.errors import (
    DuplicatePluginError,
    NoRuntimeAvailableError,
    OublietteError,
    PluginLoadError,
    UnknownRuntimeError,
)
from oubliette_core.hookspecs import API_VERSION, CORE_HOOKS, PROJECT_NAME, RuntimeSpec
from oubliette_core.models import Probe, RuntimeSettings
from oubliette_core.runtime import Runtime

__all__ = ["AUTO", "PluginState", "RuntimeCatalogue", "RuntimeReport", "build_runtime"]

AUTO = "auto"
"""The preference that takes the available runtime of the highest priority."""
RUNTIMES_GROUP = "oubliette.runtimes"
ALIASES_GROUP = "oubliette.aliases"
WRAPPERS_GROUP = "oubliette.wrappers"

SettingsSource = Callable[[str], RuntimeSettings]


class PluginState(enum.StrEnum):
    """What became of an installed runtime."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    """It loads, and its probe says that the engine cannot be used now."""
    BROKEN = "broken"
    DUPLICATE = "duplicate"
    INCOMPATIBLE = "incompatible"
    """Written for another API version."""
    DISABLED = "disabled"


@attrs.frozen(kw_only=True)
class RuntimeReport:
    """One installed runtime (or wrapper), and whether it can be used.

    :param distribution: name and version of the distribution it comes from.
    :param detail: one line: what was found, or why it cannot be used. :param hint: what to do about it.
    """

    name: str
    kind: str = "runtime"
    distribution: str
    state: PluginState
    priority: int = 0
    version: str = ""
    detail: str = ""
    hint: str = ""


class RuntimeCatalogue:
    """The runtimes that are installed.

    :param settings: gives each runtime its own section of the configuration.
    :param disabled: names that are not to be loaded (``OUBLIETTE_DISABLE_PLUGINS``).
    """

    def __init__(self, settings: SettingsSource | None = None, *, disabled: Iterable[str] = ()) -> None:
        self._settings = settings or _no_settings
        self._disabled = frozenset(disabled)
        self._runtimes = tuple(sorted(entry_points(group=RUNTIMES_GROUP), key=lambda entry: entry.name))
        self._aliases = {entry.name: entry.value for entry in entry_points(group=ALIASES_GROUP)}
        self._wrappers = tuple(sorted(entry_points(group=WRAPPERS_GROUP), key=lambda entry: entry.name))

    def names(self) -> tuple[str, ...]:
        """Return the names of the installed runtimes, sorted."""
        return tuple(sorted({entry.name for entry in self._runtimes}))

    def load(self, name: str) -> Runtime:
        """Load one runtime by its name or another name for it; import nothing of the others.

        :raises UnknownRuntimeError: none is installed under this name.
        :raises DuplicatePluginError: more than one is. :raises PluginLoadError: it is broken, incompatible or disabled.
        """
        return self._load(self._entry(self._aliases.get(name, name)))

    def choose(self, preference: str = AUTO) -> Runtime:
        """Load the runtime that is preferred; with `AUTO` the available one of highest priority, then by name.

        :raises NoRuntimeAvailableError: `AUTO`, and none can be used; every candidate is listed with the reason.
        """
        if preference != AUTO:
            return self.load(preference)
        tried = self._try_all()
        usable = [(report, runtime) for report, runtime in tried if runtime and report.state is PluginState.AVAILABLE]
        usable.sort(key=lambda pair: (-pair[0].priority, pair[0].name))
        for _, runtime in [pair for pair in tried if pair not in usable[:1]]:
            if runtime is not None:
                runtime.close()
        if usable:
            return usable[0][1]
        raise _none_available([report for report, _ in tried])

    def reports(self) -> tuple[RuntimeReport, ...]:
        """Load and probe every installed runtime and wrapper; one that fails never hides another."""
        tried = self._try_all()
        for _, runtime in tried:
            if runtime is not None:
                runtime.close()
        return (*(report for report, _ in tried), *map(self._try_wrapper, self._wrappers))

    def _entry(self, name: str) -> EntryPoint:
        found = [entry for entry in self._runtimes if entry.name == name]
        if not found:
            raise _unknown(name, self.names())
        if len(found) > 1:
            offers = " and ".join(_distribution(entry) for entry in found)
            raise DuplicatePluginError(
                f"runtime {name} is offered by {offers}", runtime=name, hint="Uninstall one of them."
            )
        return found[0]

    def _load(self, entry: EntryPoint) -> Runtime:
        if entry.name in self._disabled:
            raise _LoadError(PluginState.DISABLED, "disabled by OUBLIETTE_DISABLE_PLUGINS", runtime=entry.name)
        backend = _construct(entry, self._settings(entry.name))
        wrappers = []
        for wrapper in self._wrappers:
            try:
                wrappers.append((wrapper.name, self._load_wrapper(wrapper)))
            except PluginLoadError:
                continue  # `reports` tells; a broken wrapper must not take the runtime away
        return build_runtime(entry.name, backend, wrappers)

    def _load_wrapper(self, entry: EntryPoint) -> object:
        if entry.name in self._disabled:
            raise _LoadError(PluginState.DISABLED, "disabled by OUBLIETTE_DISABLE_PLUGINS", runtime=entry.name)
        wrapper = _construct(entry, self._settings(entry.name))
        _check_wrapper(entry.name, wrapper)
        return wrapper

    def _try_all(self) -> list[tuple[RuntimeReport, Runtime | None]]:
        counts = Counter(entry.name for entry in self._runtimes)
        if len(self._runtimes) < 2:
            return [self._try(entry, counts[entry.name]) for entry in self._runtimes]
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - not for a runtime that is named

        # A probe may take 2 s: they run side by side.
        with ThreadPoolExecutor(len(self._runtimes), "oubliette-probe") as pool:
            return list(pool.map(lambda entry: self._try(entry, counts[entry.name]), self._runtimes))

    def _try(self, entry: EntryPoint, offers: int) -> tuple[RuntimeReport, Runtime | None]:
        report = RuntimeReport(name=entry.name, distribution=_distribution(entry), state=PluginState.BROKEN)
        if offers > 1:
            detail = f"{offers} installed distributions offer this name"
            return attrs.evolve(report, state=PluginState.DUPLICATE, detail=detail, hint="Uninstall all but one."), None
        try:
            runtime = self._load(entry)
            probe = runtime.probe()
        except OublietteError as error:
            state = error.state if isinstance(error, _LoadError) else PluginState.BROKEN
            return attrs.evolve(report, state=state, detail=error.message, hint=error.hint), None
        except Exception as error:  # noqa: BLE001 - the guard: whatever a plugin raises is its own failure
            return attrs.evolve(report, detail=f"its probe raised {_line(error)}"), None
        return _probed(report, probe), runtime

    def _try_wrapper(self, entry: EntryPoint) -> RuntimeReport:
        report = RuntimeReport(
            name=entry.name, kind="wrapper", distribution=_distribution(entry), state=PluginState.AVAILABLE
        )
        try:
            self._load_wrapper(entry)
        except PluginLoadError as error:
            state = error.state if isinstance(error, _LoadError) else PluginState.BROKEN
            return attrs.evolve(report, state=state, detail=error.message, hint=error.hint)
        return report


def _no_settings(_name: str) -> RuntimeSettings:
    return RuntimeSettings()


def build_runtime(name: str, backend: object, wrappers: Iterable[tuple[str, object]] = ()) -> Runtime:
    """Put a constructed backend, and wrappers around it, behind the typed face.

    :param wrappers: ``(name, object)``; the first is the outermost.
    :raises PluginLoadError: a core hook is missing, or a hook implementation is misspelt or has wrong arguments.
    """
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(RuntimeSpec)
    try:
        manager.register(backend, name)
        for wrapper_name, wrapper in reversed(list(wrappers)):
            _check_wrapper(wrapper_name, wrapper)
            manager.register(wrapper, f"wrapper {wrapper_name}")
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise _invalid(name, manager, error) from error
    runtime = Runtime(name, manager)
    missing = sorted(CORE_HOOKS & runtime.missing_hooks)
    if missing:
        raise PluginLoadError(f"runtime {name} does not implement {', '.join(missing)}", runtime=name)
    return runtime


class _LoadError(PluginLoadError):
    """A load error that knows which state it stands for."""

    def __init__(self, state: PluginState, message: str, *, runtime: str, hint: str = "") -> None:
        super().__init__(message, runtime=runtime, hint=hint)
        self.state = state


def _construct(entry: EntryPoint, settings: RuntimeSettings) -> object:
    """Import the class and construct it; everything it raises becomes one error that names the distribution."""
    try:
        factory: Any = entry.load()
    except BaseException as error:  # an import can raise SystemExit, too
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginLoadError(
            f"{_distribution(entry)}: importing {entry.value} raised {_line(error)}",
            runtime=entry.name,
            hint=f"Reinstall or uninstall {_distribution(entry)}.",
        ) from error
    version = getattr(factory, "api_version", None)
    if version != API_VERSION:
        raise _LoadError(
            PluginState.INCOMPATIBLE,
            f"{_distribution(entry)} is written for API version {version}, and this core has {API_VERSION}",
            runtime=entry.name,
            hint="Install versions of core and plugin that belong together.",
        )
    try:
        return factory(settings)
    except OublietteError:
        raise
    except Exception as error:
        raise PluginLoadError(
            f"{_distribution(entry)}: constructing {entry.value} raised {_line(error)}", runtime=entry.name
        ) from error


def _check_wrapper(name: str, wrapper: object) -> None:
    """Refuse a wrapper that answers by itself: it would be a second backend."""
    for attribute in dir(type(wrapper)):
        options = getattr(getattr(type(wrapper), attribute, None), f"{PROJECT_NAME}_impl", None)
        if isinstance(options, dict) and not (options.get("wrapper") or options.get("hookwrapper")):
            raise PluginLoadError(
                f"wrapper {name}: {attribute} is not declared with hookimpl(wrapper=True)", runtime=name
            )


def _invalid(name: str, manager: pluggy.PluginManager, error: Exception) -> PluginLoadError:
    known = [hook for hook in vars(RuntimeSpec) if not hook.startswith("_")]
    hint = ""
    for unknown in sorted(set(vars(manager.hook)) - set(known)):
        close = difflib.get_close_matches(unknown, known, 3)
        if close:
            hint = f"{unknown} is no hook; did you mean {' or '.join(close)}?"
    return PluginLoadError(f"runtime {name}: {_line(error)}", runtime=name, hint=hint)


def _probed(report: RuntimeReport, probe: Probe) -> RuntimeReport:
    state = PluginState.AVAILABLE if probe.available else PluginState.UNAVAILABLE
    return attrs.evolve(
        report,
        state=state,
        priority=probe.priority,
        version=probe.version,
        detail=probe.detail,
        hint=probe.hint,
    )


def _none_available(reports: list[RuntimeReport]) -> NoRuntimeAvailableError:
    candidates = [(report.name, report.detail, report.hint) for report in reports]
    if not candidates:
        return NoRuntimeAvailableError(
            "no container runtime is installed",
            hint="Install one: on Linux pip install 'oubliette-core[docker]', or without an engine "
            "'oubliette-core[embedded]'; on macOS 'oubliette-core[apple]'.",
        )
    lines = "; ".join(f"{name}: {detail}" for name, detail, _ in candidates)
    hints = " ".join(f"{name}: {hint}" for name, _, hint in candidates if hint)
    return NoRuntimeAvailableError(f"no container runtime can be used ({lines})", candidates=candidates, hint=hints)


def _unknown(name: str, known: tuple[str, ...]) -> UnknownRuntimeError:
    listed = ", ".join(known) or "none"
    return UnknownRuntimeError(
        f"no runtime is installed under the name {name!r}; installed: {listed}",
        runtime=name,
        known=known,
        hint=f"Choose one of them, or install it: pip install oubliette-{name}" if name.isidentifier() else "",
    )


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
