"""How containers are run: what the user wrote, what is preferred, and as whom."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from oubliette_core.config import Config, ContainerDefaults, DefaultsConfig, LoadedConfig, Source
from oubliette_core.guest import IDLE_COMMAND
from oubliette_core.models import Capability, ContainerSpec, ContainerType, Mount
from oubliette_core.services.ids import now
from oubliette_core.services.policy import ContainerPolicy, container_name
from oubliette_core.services.records import Project

ALL = frozenset(Capability) - {Capability.ROOTLESS, Capability.VM_ISOLATION}
PROJECT = Project(
    id="proj_aaaaaaaaaaaa",
    name="demo",
    container_type="base",
    created_at=now(),
    workspace=Path("/data/p/workspace"),
    home=Path("/data/p/home"),
)
TYPE = ContainerType(name="base", image="base:1", platform="linux/amd64")


def policy(*written: str, strict: bool = False, uid: int = 1000, **settings: object) -> ContainerPolicy:
    """Return the policy of a configuration in which ``written`` stand in the file."""
    container = ContainerDefaults(**settings)  # type: ignore[arg-type]
    defaults = DefaultsConfig(container=container, hardening="strict" if strict else "best")
    loaded = LoadedConfig(
        config=Config(defaults=defaults),
        sources={("defaults", "container", name): Source.FILE for name in (*written, *settings)},
    )
    return ContainerPolicy.of(loaded, "homehomehome", uid=uid, gid=uid + 1)


def spec(of: ContainerPolicy, capabilities: frozenset[Capability] = ALL, kind: ContainerType = TYPE) -> ContainerSpec:
    """Return the specification of the project's third container."""
    return of.spec(PROJECT, kind, capabilities, generation=3, attempt="try_x")


def test_the_whole_specification() -> None:
    """Secure by default, and nothing more of the host than two directories."""
    expected = ContainerSpec(
        image="base:1",
        platform="linux/amd64",
        name="oubliette-homeho-proj_aaaaaaaaaaaa-g3",
        command=IDLE_COMMAND,
        entrypoint=(),
        env={"HOME": "/home/oubliette", "USER": "oubliette", "LOGNAME": "oubliette"},
        workdir="/workspace",
        user="1000:1001",
        labels={
            "dev.oubliette.home": "homehomehome",
            "dev.oubliette.project": "proj_aaaaaaaaaaaa",
            "dev.oubliette.type": "base",
            "dev.oubliette.generation": "3",
            "dev.oubliette.attempt": "try_x",
        },
        mounts=(
            Mount(source="/data/p/workspace", target="/workspace"),
            Mount(source="/data/p/home", target="/home/oubliette"),
        ),
        pids=4096,
        init=True,
        drop_capabilities=("ALL",),
        add_capabilities=("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"),
        no_new_privileges=True,
    )

    assert expected == attrs.evolve(spec(policy()), preferred=frozenset())


def test_built_in_settings_are_preferred_and_written_ones_required() -> None:
    """Whoever writes a limit relies on it."""
    preferred = spec(policy(pids=100)).preferred

    assert {"init", "drop_capabilities", "add_capabilities", "no_new_privileges", "user"} <= preferred
    assert "pids" not in preferred


def test_strict_makes_all_required_but_what_a_machine_outdoes() -> None:
    """Dropping capabilities protects a kernel that a virtual machine does not share."""
    strict = policy(strict=True)
    machine = {"drop_capabilities", "add_capabilities", "no_new_privileges", "pids"}

    assert frozenset() == spec(strict).preferred
    assert machine == spec(strict, ALL | {Capability.VM_ISOLATION}).preferred
    assert machine - {"pids"} == spec(policy(strict=True, pids=9), ALL | {Capability.VM_ISOLATION}).preferred


@pytest.mark.parametrize(
    ("uid", "rootless", "user", "named"),
    [
        (1000, False, "1000:1001", True),
        (1000, True, "0:0", False),
        (0, True, "0:0", False),
        (0, False, None, False),
    ],
)
def test_as_whom_containers_run(uid: int, rootless: bool, user: str | None, named: bool) -> None:
    """As whoever can share files with this user: the same uid, or 0 where that is this user outside."""
    capabilities = ALL | {Capability.ROOTLESS} if rootless else ALL
    found = spec(policy(uid=uid), capabilities)

    assert (user, named) == (found.user, "USER" in found.env)


def test_a_rootless_engine_without_a_choice_of_users_is_not_asked_for_one() -> None:
    """Whoever the image's user is, is this user outside."""
    one_user = (ALL | {Capability.ROOTLESS}) - {Capability.USER}

    assert spec(policy(), one_user).user is None
    assert "user" not in policy().unenforced(one_user)


def test_a_user_in_the_configuration_wins() -> None:
    """On any engine, and is not renamed."""
    found = spec(policy(user="app"), ALL | {Capability.ROOTLESS})

    assert ("app", {"HOME": "/home/oubliette"}) == (found.user, dict(found.env))


def test_variables_of_the_configuration_are_added_and_win() -> None:
    """They are what the user wrote."""
    found = spec(policy(env={"TZ": "UTC", "HOME": "/root"}))

    assert {"HOME": "/root", "USER": "oubliette", "LOGNAME": "oubliette", "TZ": "UTC"} == dict(found.env)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("idle",), (IDLE_COMMAND, ())),
        (("image",), (None, None)),
        (("/bin/program", "-x"), (("/bin/program", "-x"), ())),
    ],
)
def test_what_runs(command: tuple[str, ...], expected: object) -> None:
    """The image's entry point is kept only with the image's own command."""
    found = spec(policy(), kind=attrs.evolve(TYPE, command=command))

    assert expected == (found.command, found.entrypoint)


def test_what_a_runtime_leaves_out_is_told() -> None:
    """Before any container is made."""
    without = ALL - {Capability.PIDS_LIMIT, Capability.USER}

    assert ("pids", "user") == policy().unenforced(without)
    assert () == policy().unenforced(ALL)


def test_names_of_containers_fit_every_engine() -> None:
    """Short enough for a host name, with nothing that an engine refuses."""
    name = container_name("homehomehome", "proj_aaaaaaaaaaaa", 123456)

    assert "oubliette-homeho-proj_aaaaaaaaaaaa-g123456" == name
    assert len(name) <= 63


def test_projects_whose_ids_begin_alike_have_containers_of_their_own() -> None:
    """The whole id is in the name: one that was cut would hand one project's commands to another."""
    names = {container_name("homehomehome", f"proj_aaaaaaaaaaa{last}", 1) for last in "abc"}

    assert 3 == len(names)
