"""How a project's container is run: the configuration's settings, as one specification.

What the user wrote is required. The built-in defaults are preferred, or required too when hardening is strict, except
for those that a virtual machine outdoes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from oubliette_core import _guard
from oubliette_core.config.layers import Source
from oubliette_core.guest import IDLE_COMMAND
from oubliette_core.models import (
    LABEL_ATTEMPT,
    LABEL_GENERATION,
    LABEL_HOME,
    LABEL_PROJECT,
    LABEL_TYPE,
    Capability,
    ContainerSpec,
    ContainerType,
    Mount,
)
from oubliette_core.services.inside import HOME, USER_NAME, WORKSPACE

if TYPE_CHECKING:
    from typing import Self

    from oubliette_core.config.loading import LoadedConfig
    from oubliette_core.config.schema import ContainerDefaults
    from oubliette_core.services.records import Project

__all__ = ["ContainerPolicy", "container_name"]

_OUTDONE_BY_A_MACHINE = frozenset({"drop_capabilities", "add_capabilities", "no_new_privileges", "pids"})


def container_name(home_id: str, project_id: str, generation: int) -> str:
    """Return the name of a project's container."""
    return f"oubliette-{home_id[:6]}-{project_id}-g{generation}"


@attrs.frozen(kw_only=True)
class ContainerPolicy:
    """How containers of one home are run.

    :param settings: ``defaults.container`` of the configuration.
    :param built_in: names of the settings that the user did not write.
    :param strict: built-in settings are required too.
    :param home_id: id of the home. :param uid: of this process. :param gid: likewise.
    """

    settings: ContainerDefaults
    built_in: frozenset[str]
    strict: bool
    home_id: str
    uid: int
    gid: int

    @classmethod
    def of(cls, loaded: LoadedConfig, home_id: str, *, uid: int, gid: int) -> Self:
        """Take the policy from the configuration."""
        settings = loaded.config.defaults.container
        names = (field.name for field in attrs.fields(type(settings)))
        written = {name for name in names if loaded.source_of(("defaults", "container", name)) is not Source.DEFAULT}
        return cls(
            settings=settings,
            built_in=frozenset(field.name for field in attrs.fields(ContainerSpec)) - written,
            strict=loaded.config.defaults.hardening == "strict",
            home_id=home_id,
            uid=uid,
            gid=gid,
        )

    def spec(
        self,
        project: Project,
        container_type: ContainerType,
        capabilities: frozenset[Capability],
        *,
        generation: int,
        attempt: str,
    ) -> ContainerSpec:
        """Return the specification of a project's container.

        :param capabilities: of the runtime. :param attempt: id of the attempt to make it.
        """
        command, entrypoint = _command(container_type)
        return attrs.evolve(
            self._settings(container_type.image, capabilities),
            platform=container_type.platform,
            name=container_name(self.home_id, project.id, generation),
            command=command,
            entrypoint=entrypoint,
            env=self._env(capabilities),
            workdir=WORKSPACE,
            labels={
                LABEL_HOME: self.home_id,
                LABEL_PROJECT: project.id,
                LABEL_TYPE: container_type.name,
                LABEL_GENERATION: str(generation),
                LABEL_ATTEMPT: attempt,
            },
            mounts=(
                Mount(source=str(project.workspace), target=WORKSPACE),
                Mount(source=str(project.home), target=HOME),
            ),
        )

    def unenforced(self, capabilities: frozenset[Capability]) -> tuple[str, ...]:
        """Return the names of the preferred settings that a runtime with these capabilities leaves out.

        :raises UnsupportedError: it lacks what is required.
        """
        return _guard.enforceable(self._settings("any", capabilities), capabilities, "")[1]

    def _settings(self, image: str, capabilities: frozenset[Capability]) -> ContainerSpec:
        settings = self.settings
        return ContainerSpec(
            image=image,
            user=self.user(capabilities),
            memory=settings.memory,
            cpus=settings.cpus,
            pids=settings.pids,
            network=settings.network,
            init=settings.init,
            read_only=settings.read_only,
            drop_capabilities=settings.drop_capabilities,
            add_capabilities=settings.add_capabilities,
            no_new_privileges=settings.no_new_privileges,
            preferred=self._preferred(capabilities),
        )

    def user(self, capabilities: frozenset[Capability]) -> str | None:
        """Return as whom containers run, so that both sides can write in the workspace; None for the image's user.

        On a rootless engine uid 0 inside is the user who runs it; where there is no choice of users, every one is. The
        superuser of this machine should not be one in a container as well, and can hand over the workspace to whoever
        the image is for.
        """
        if self.settings.user is not None:
            return self.settings.user
        if Capability.ROOTLESS in capabilities:
            return "0:0" if Capability.USER in capabilities else None
        return None if self.uid == 0 else f"{self.uid}:{self.gid}"

    def names_user(self, capabilities: frozenset[Capability]) -> bool:
        """Tell whether containers run as a uid that we chose, which is then called `USER_NAME` inside."""
        return self.settings.user is None and self.user(capabilities) not in (None, "0:0")

    def _env(self, capabilities: frozenset[Capability]) -> dict[str, str]:
        env = {"HOME": HOME}
        if self.names_user(capabilities):
            env |= {"USER": USER_NAME, "LOGNAME": USER_NAME}
        return {**env, **self.settings.env}

    def _preferred(self, capabilities: frozenset[Capability]) -> frozenset[str]:
        if not self.strict:
            return self.built_in
        return self.built_in & _OUTDONE_BY_A_MACHINE if Capability.VM_ISOLATION in capabilities else frozenset()


def _command(container_type: ContainerType) -> tuple[tuple[str, ...] | None, tuple[()] | None]:
    """Return command and entry point; an argv of the user's is run as it stands, as our own is."""
    words = container_type.command
    if words == ("image",):
        return None, None
    return (IDLE_COMMAND if words == ("idle",) else words), ()
