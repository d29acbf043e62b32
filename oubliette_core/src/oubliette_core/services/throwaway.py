"""A container that lives for one task on a project's directories, and is removed after it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import OublietteError
from oubliette_core.guest import IDLE_COMMAND
from oubliette_core.models import LABEL_GENERATION, ContainerSpec, ExecSpec, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_core.runtime import Runtime
    from oubliette_core.services.records import Project

__all__ = ["remove_as_root", "throwaway"]

_PROJECT = "/project"
_REMOVE = 'rm -rf -- "$@" 2>/dev/null || busybox rm -rf -- "$@"'
_SECONDS = 600.0


@contextlib.contextmanager
def throwaway(runtime: Runtime, spec: ContainerSpec) -> Iterator[str]:
    """Have a container running that waits for commands; gives its id.

    :param spec: what it is made from; command, name and generation are replaced, so that nobody takes it for the
        project's own and the clearing after a crash removes it.
    """
    labels = {**spec.labels, LABEL_GENERATION: "throwaway"}
    container = runtime.create(attrs.evolve(spec, name=None, labels=labels, command=IDLE_COMMAND, entrypoint=()))
    try:
        yield runtime.start(container.id).id
    finally:
        runtime.remove(container.id, force=True)


def remove_as_root(
    runtime: Runtime, project: Project, image: str, labels: Mapping[str, str], *, keep_workspace: bool
) -> None:
    """Remove, as far as that can be done, what in a project's directories belongs to users of its containers.

    :param image: reference or id of an image that is present. :param labels: of the project's containers.
    """
    spec = ContainerSpec(
        image=image,
        user="0:0",
        labels=labels,
        mounts=(Mount(source=str(project.workspace.parent), target=_PROJECT),),
        network="none",
        init=True,
        drop_capabilities=("ALL",),
        add_capabilities=("DAC_OVERRIDE", "FOWNER"),
        no_new_privileges=True,
        preferred=frozenset({"user", "network", "init", "drop_capabilities", "add_capabilities", "no_new_privileges"}),
    )
    names = ["home"] if keep_workspace else ["home", "workspace"]
    command = ("/bin/sh", "-c", _REMOVE, "sh", *(f"{_PROJECT}/{name}" for name in names))
    with contextlib.suppress(OublietteError), throwaway(runtime, spec) as container:
        runtime.exec(container, ExecSpec(command=command, timeout=_SECONDS))
