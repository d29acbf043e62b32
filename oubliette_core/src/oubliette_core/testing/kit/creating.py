"""Creating containers: what is kept of a specification, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from oubliette_core.errors import (
    ImageNotFoundError,
    InvalidSpecError,
    NameConflictError,
    StartFailedError,
)
from oubliette_core.models import ContainerInfo, ContainerSpec, ContainerStatus, Mount
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.calls import together
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import Maker, Stage

_ODD = {
    "SPACES": "  two  and two  ",
    "QUOTES": "\"double\" 'single' `back`",
    "SHELL": "$HOME $(id) ; | & > * ? \\n",
    "LINES": "first\nsecond\n",
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "WORDS": "grüße, мир, 世界",
}
_ODD_WORDS = (
    "first",
    "",
    " ",
    "$(echo no)",
    "`echo no`",
    "; echo no",
    "*",
    "'",
    '"',
    "--help",
    "-",
    "a\nb",
    "\\",
    "世界",
)
_NAMES = ("", "=", "=x", "A=B", "A B", "A\0B", "1A")


class CreatingCases(Cases):
    """create: the container that is made."""

    def test_containers_create(self, make: Maker) -> None:
        info = make.created()
        listed = make.listed()

        assert (ContainerStatus.CREATED, False) == (info.status, info.running)
        assert [(info.id, ContainerStatus.CREATED)] == [(one.id, one.status) for one in listed]
        assert [] == make.listed(running_only=True)

    def test_containers_create_attributes(self, stage: Stage, runtime: Runtime, make: Maker, kit_folder: Path) -> None:
        mount = make.bind(kit_folder, read_only=True)
        labels = {"plain": "word", "odd": 'a=b, "c" {d} ü', "empty": "", "dev.example/path": "1"}
        name = make.name()
        info = runtime.inspect(make.created(name=name, labels=labels, mounts=(mount,)).id)

        assert (name, stage.base, (mount,)) == (info.name, info.image, info.mounts)
        assert {**make.labels, **labels} == {key: info.labels.get(key) for key in (*make.labels, *labels)}

    def test_containers_create_generated_name(self, runtime: Runtime, make: Maker) -> None:
        one, other = make.created(), make.created()

        assert one.name
        assert one.name != other.name
        assert one.id == runtime.inspect(one.name).id

    def test_containers_create_no_image(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        absent = make.absent()
        before = stage.registry.count()
        with pytest.raises(ImageNotFoundError) as failed:
            make.created(image=absent)

        assert (absent, runtime.name) == (failed.value.subject, failed.value.runtime)
        assert [] == make.listed()
        assert before == stage.registry.count()

    def test_containers_create_no_network(self, stage: Stage, make: Maker) -> None:
        published = make.pulled()
        make.publish()  # a newer one, which must not be fetched
        before = stage.registry.count()
        make.running(image=published.reference)

        assert before == stage.registry.count()

    def test_containers_create_name_taken(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        first = make.running(name=name)
        with pytest.raises(NameConflictError) as failed:
            make.created(name=name)

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)
        assert [(first.id, True)] == [(info.id, info.running) for info in make.listed()]

    def test_containers_create_race(self, runtime: Runtime, make: Maker) -> None:
        spec = make.spec(name=make.name())
        outcomes = together([lambda: runtime.create(spec)] * 16)
        made = [outcome for outcome in outcomes if isinstance(outcome, ContainerInfo)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, NameConflictError)]

        assert (1, 15) == (len(made), len(refused)), outcomes
        assert [made[0].id] == [info.id for info in make.listed()]

    def test_containers_create_name_again(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        first = make.created(name=name, labels={"which": "first"})
        runtime.remove(first.id)
        second = make.created(name=name, labels={"which": "second"})
        seen = runtime.inspect(name)

        assert (second.id, "second") == (seen.id, seen.labels["which"])

    def test_containers_create_invalid_variable(self, runtime: Runtime, make: Maker) -> None:
        _refused(runtime, [make.spec(env={name: "value"}) for name in _NAMES] + [make.spec(env={"A": "b\0c"})])

    def test_containers_create_invalid_path(self, runtime: Runtime, make: Maker) -> None:
        targets = ("relative", "/", "/proc/x", "/sys", "/a/../b", "")
        workdirs = ("relative", "/proc/self/fd/8", "/a/../..", "", "/a\0b")
        specs = [make.spec(mounts=(Mount(source="/etc", target=target),)) for target in targets]
        specs += [make.spec(mounts=(Mount(source="relative", target="/x"),))]
        _refused(runtime, specs + [make.spec(workdir=workdir) for workdir in workdirs])

    def test_containers_create_invalid_label(self, runtime: Runtime, make: Maker) -> None:
        _refused(runtime, [make.spec(labels=labels) for labels in ({"": "x"}, {"a=b": "x"}, {"a": "b\nc"})])


class ContentCases(Cases):
    """create: what the processes of the container find."""

    def test_containers_image_command(self, stage: Stage, make: Maker) -> None:
        image = stage.image(command=("/bin/sh", "-c", "sleep 1000 & echo image > /tmp/ran; wait"))

        assert "image" == make.running(image=make.pulled(image).reference).says(_WAIT_FOR_RAN)

    def test_containers_command(self, stage: Stage, make: Maker) -> None:
        image = stage.image(entrypoint=_PRINT_AND_WAIT, command=("of", "the", "image"))
        box = make.running("of", "the spec", image=make.pulled(image).reference)

        assert "of\nthe spec" == box.says(_WAIT_FOR_RAN)

    def test_containers_entrypoint_cleared(self, stage: Stage, make: Maker) -> None:
        image = stage.image(entrypoint=("/bin/false",), command=("of", "the", "image"))
        box = make.running(*_PRINT_AND_WAIT, "cleared", image=make.pulled(image).reference, entrypoint=())

        assert "cleared" == box.says(_WAIT_FOR_RAN)

    def test_containers_entrypoint_replaced(self, stage: Stage, make: Maker) -> None:
        image = stage.image(entrypoint=("/bin/false",), command=("of the image",))
        box = make.running("given", image=make.pulled(image).reference, entrypoint=_PRINT_AND_WAIT)

        assert "given" == box.says(_WAIT_FOR_RAN)

    def test_containers_argv(self, make: Maker) -> None:
        box = make.running(*_PRINT_AND_WAIT, *_ODD_WORDS)

        assert "\n".join(_ODD_WORDS) == box.says(_WAIT_FOR_RAN)

    def test_containers_env(self, stage: Stage, make: Maker) -> None:
        image = stage.image(env={"OF_IMAGE": "kept", "OF_BOTH": "image's"})
        box = make.running(image=make.pulled(image).reference, env={"OF_BOTH": "spec's", "OF_SPEC": "added"})
        found = box.says('echo "$OF_IMAGE $OF_BOTH $OF_SPEC"; tr "\\0" "\\n" < /proc/1/environ | grep -c ^OF_')

        assert "kept spec's added\n3" == found

    def test_containers_env_exact(self, make: Maker) -> None:
        box = make.running(env=_ODD)
        found = {name: box.shell(f'printf "%s" "${name}"').stdout.decode() for name in _ODD}

        assert found == _ODD

    def test_containers_workdir(self, make: Maker) -> None:
        # One that any user may enter: the superuser of a container may have no capability to pass over that.
        assert "/kit" == make.running(workdir="/kit").says("pwd")

    def test_containers_user(self, make: Maker) -> None:
        users = {"1000": "1000 1000", "agent": "1000 1000", "1000:0": "1000 0", "65534:1000": "65534 1000"}
        found = {user: make.running(user=user).says("echo $(id -u) $(id -g)") for user in users}

        assert found == users

    def test_containers_user_of_main_process(self, make: Maker) -> None:
        box = make.running(user="1000:1000")

        assert ["1000"] * 4 == box.status("Uid", "1").split()

    def test_containers_user_unknown(self, make: Maker) -> None:
        with pytest.raises((InvalidSpecError, StartFailedError)):
            make.running(user="nobody-of-this-name")

        assert [] == make.listed(running_only=True)


class MountCases(Cases):
    """create: what of the host is visible in the container."""

    def test_containers_bind(self, make: Maker, kit_folder: Path) -> None:
        (kit_folder / "given").write_text("from outside", encoding="ascii")
        box = make.running(mounts=(make.bind(kit_folder),))

        assert "from outside" == box.says("cat /shared/given; echo from inside > /shared/made")
        assert "from inside\n" == (kit_folder / "made").read_text(encoding="ascii")

    def test_containers_bind_read_only(self, make: Maker, kit_folder: Path) -> None:
        (kit_folder / "given").write_text("from outside", encoding="ascii")
        box = make.running(mounts=(make.bind(kit_folder, read_only=True),))
        written = box.shell("echo changed > /shared/given || echo new > /shared/made")

        assert "from outside" == box.says("cat /shared/given")
        assert written.exit_code != 0
        assert ["given"] == [path.name for path in kit_folder.iterdir()]

    def test_containers_bind_link(self, make: Maker, kit_folder: Path) -> None:
        real = kit_folder / "real"
        real.mkdir()
        (real / "given").write_text("behind a link", encoding="ascii")
        link = kit_folder / "link"
        link.symlink_to(real)
        box = make.running(mounts=(Mount(source=str(link), target="/shared"),))

        assert "behind a link" == box.says("cat /shared/given")

    def test_containers_bind_missing(self, make: Maker, kit_folder: Path) -> None:
        missing = kit_folder / "missing"
        with pytest.raises(InvalidSpecError) as failed:
            make.created(mounts=(Mount(source=str(missing), target="/shared"),))

        assert str(missing) in str(failed.value)
        assert not missing.exists()
        assert [] == make.listed()

    def test_containers_bind_survives(self, runtime: Runtime, make: Maker, kit_folder: Path) -> None:
        box = make.running(mounts=(make.bind(kit_folder),))
        box.says("echo kept > /shared/made")
        runtime.remove(box.id, force=True)

        assert "kept\n" == (kit_folder / "made").read_text(encoding="ascii")

    def test_containers_tmpfs(self, make: Maker) -> None:
        box = make.running(mounts=(Mount(kind="tmpfs", target="/scratch", size=1024 * 1024),))
        kind = box.says("grep ' /scratch ' /proc/mounts").split()[2]
        full = box.shell("head -c 4000000 /dev/zero > /scratch/file")

        assert kind == "tmpfs"
        assert full.exit_code != 0
        assert int(box.says("wc -c < /scratch/file")) <= 1024 * 1024

    def test_containers_volume(self, runtime: Runtime, make: Maker) -> None:
        # The contract has no way to remove a volume: always the same one is used, and left behind empty.
        volume = (Mount(kind="volume", source="oubliette-conformance", target="/volume"),)
        first = make.running(mounts=volume)
        first.says("echo kept > /volume/file")
        runtime.remove(first.id, force=True)
        second = make.running(mounts=volume)

        assert "kept" == second.says("cat /volume/file; rm /volume/file")

    def test_containers_isolated(self, make: Maker) -> None:
        one, other = make.running(), make.running()
        one.says("echo mine > /kit/mine")

        assert other.shell("cat /kit/mine 2>/dev/null").exit_code != 0


def _refused(runtime: Runtime, specs: list[ContainerSpec]) -> None:
    """See each specification refused before the backend is asked for anything."""
    relay = Relay(runtime)
    face = relay.face()
    for spec in specs:
        with pytest.raises(InvalidSpecError):
            face.create(spec)

    assert specs
    assert [] == relay.calls


_PRINT_AND_WAIT = (
    "/bin/sh",
    "-c",
    'printf "%s\\n" "$@" > /tmp/ran.part; mv /tmp/ran.part /tmp/ran; trap "exit 0" TERM; sleep 1000 & wait',
    "sh",
)
_WAIT_FOR_RAN = "until [ -e /tmp/ran ]; do sleep 0.02; done; cat /tmp/ran"
