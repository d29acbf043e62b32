"""`App`: one Oubliette home, opened: configuration, runtime, images and services put together.

What needs a container runtime is imported when it is first asked for: many commands only look at records.
"""

from __future__ import annotations

import os
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from oubliette_core.errors import PluginLoadError
from oubliette_core.services.events import EventLog
from oubliette_core.services.locks import ProjectLocks
from oubliette_core.services.mailbox import Mailbox
from oubliette_core.services.project_records import ProjectRecords
from oubliette_core.services.projects import Projects
from oubliette_core.services.sessions import Sessions
from oubliette_core.services.store import Store
from oubliette_core.services.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from oubliette_core.config import Home, LoadedConfig
    from oubliette_core.images import ImageManager
    from oubliette_core.plugins import RuntimeCatalogue
    from oubliette_core.runtime import Runtime
    from oubliette_core.services.containers import Containers
    from oubliette_core.services.generations import Generations
    from oubliette_core.services.policy import ContainerPolicy
    from oubliette_core.services.reaping import Reaper
    from oubliette_core.services.removal import Removal

__all__ = ["App"]

_EMPTY: Mapping[str, str] = MappingProxyType({})


class App:
    """One Oubliette home, opened. A context manager; may be used from several threads.

    ``projects``, ``sessions``, ``events``, ``mailbox`` and ``tokens`` need no container runtime. ``runtime``,
    ``images`` and ``containers`` load the one that is preferred when they are first asked for, and may raise
    `PluginError`; so does ``reaper`` where it finds something.

    :param home: has to exist. :param loaded: its configuration.
    :param runtime: name of the runtime, which wins over the configuration's; or a runtime that is loaded already.
    :param disabled: names of plugins that are not to be loaded, besides those that the configuration was loaded with.
    :param environ: the environment, of which programs that are started on this machine (git, ssh) see a few variables.
    """

    def __init__(
        self,
        home: Home,
        loaded: LoadedConfig,
        *,
        runtime: Runtime | str | None = None,
        disabled: Iterable[str] = (),
        environ: Mapping[str, str] = _EMPTY,
    ) -> None:
        self.home = home
        self.loaded = loaded
        self._disabled = {*loaded.disabled_plugins, *disabled}
        self._catalogue: RuntimeCatalogue | None = None
        self._preference = runtime if isinstance(runtime, str) else loaded.config.runtime
        self._runtime = None if isinstance(runtime, str) else runtime
        self._environ = dict(environ)
        self._lock = threading.RLock()
        self._images: ImageManager | None = None
        self._containers: Containers | None = None
        self._store = Store(home.database, home.projects_dir, home.locks_dir)
        self._records = ProjectRecords(self._store)
        self._locks = ProjectLocks(home.locks_dir)
        self.sessions = Sessions(self._store, self._locks, home.locks_dir)
        self.events = EventLog(self._store, loaded.config.defaults.limits.session_log)
        self.mailbox = Mailbox(self._store, self.sessions)
        self.tokens = Tokens(self._store, self._records.find)
        self.projects = self._make_projects()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the runtime's connections and the database. Idempotent; a later call opens what it needs."""
        with self._lock:
            if self._runtime is not None:
                self._runtime.close()
        self._store.close()

    @property
    def reaper(self) -> Reaper:
        """What sees to sessions whose process died."""
        from oubliette_core.services.reaping import Reaper  # noqa: PLC0415

        return Reaper(self.sessions, self.events, self._locks, lambda: self.runtime)

    @property
    def catalogue(self) -> RuntimeCatalogue:
        """The installed runtimes."""
        from oubliette_core.plugins import RuntimeCatalogue  # noqa: PLC0415

        with self._lock:
            if self._catalogue is None:
                self._catalogue = RuntimeCatalogue(
                    lambda name: self.loaded.runtime_settings(name, self.home.id), disabled=self._disabled
                )
            return self._catalogue

    @property
    def runtime(self) -> Runtime:
        """The preferred runtime.

        :raises NoRuntimeAvailableError: the preference is ``auto``, and none can be used.
        :raises PluginError: the preferred one is not installed or cannot be loaded.
        """
        with self._lock:
            if self._runtime is None:
                self._runtime = self.catalogue.choose(self._preference)
            return self._runtime

    @property
    def images(self) -> ImageManager:
        """The images of the configured container types, on the preferred runtime."""
        from oubliette_core.images import ImageManager  # noqa: PLC0415

        with self._lock:
            if self._images is None:
                self._images = ImageManager(
                    self.runtime,
                    self.loaded.config.container_types,
                    locks_dir=self.home.locks_dir,
                    dev_mode=self.loaded.dev,
                    mirrors=self.loaded.config.registries.mirrors,
                    lock_file=self.home.lock_file,
                )
            return self._images

    @property
    def containers(self) -> Containers:
        """The projects' containers on the preferred runtime.

        :raises PluginLoadError: the runtime lacks operations that containers need.
        """
        with self._lock:
            if self._containers is None:
                self._containers = self._make_containers()
            return self._containers

    def _make_projects(self) -> Projects:
        token = self.loaded.config.credentials.github.token
        return Projects(
            directory=self.home.projects_dir,
            types=self.loaded.config.container_types,
            default_type=self.loaded.config.default_type,
            records=self._records,
            sessions=self.sessions,
            locks=self._locks,
            removal=self._removal,
            environ=self._environ,
            github_token=token,
        )

    def _make_containers(self) -> Containers:
        from oubliette_core.services.containers import Containers  # noqa: PLC0415

        return Containers(
            runtime=self._serving(),
            images=lambda: self.images,
            types=self.loaded.config.container_types,
            records=self._records,
            generations=self._generations(),
            sessions=self.sessions,
            locks=self._locks,
            policy=self._policy(),
        )

    def _serving(self) -> Runtime:
        """Return the runtime, which has to have all operations that containers need."""
        runtime = self.runtime
        if runtime.missing_hooks:
            missing = ", ".join(sorted(runtime.missing_hooks))
            raise PluginLoadError(
                f"runtime {runtime.name} cannot serve projects: it does not implement {missing}",
                runtime=runtime.name,
                hint="Choose another: oubliette runtime list",
            )
        return runtime

    def _removal(self) -> Removal:
        from oubliette_core.services.removal import Removal  # noqa: PLC0415

        return Removal(self._serving(), self._generations(), self.images)

    def _generations(self) -> Generations:
        from oubliette_core.services.generations import Generations  # noqa: PLC0415

        return Generations(self.runtime, self._records, self._policy())

    def _policy(self) -> ContainerPolicy:
        from oubliette_core.services.policy import ContainerPolicy  # noqa: PLC0415

        return ContainerPolicy.of(self.loaded, self.home.id, uid=os.geteuid(), gid=os.getegid())
