"""What is asked for is what the engine is told, and what it says is what we report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from oubliette_core.models import ContainerSpec, ContainerStatus, ImageInfo, Mount
from oubliette_docker._specs import (
    container_info,
    create_body,
    image_info,
    listed_container,
    matches_platform,
    parse_time,
)

RAW: dict[str, Any] = {
    "Id": "a" * 64,
    "Name": "/box",
    "Created": "2026-11-23T12:00:00.123456789Z",
    "Image": "sha256:" + "b" * 64,
    "Config": {"Image": "box:latest", "Labels": {"k": "v"}},
    "State": {"Status": "running", "ExitCode": 0, "StartedAt": "2026-11-23T13:00:01+01:00", "OOMKilled": False},
    "NetworkSettings": {"Networks": {"none": {"IPAddress": ""}, "bridge": {"IPAddress": "10.0.0.2"}}},
    "HostConfig": {"Mounts": [{"Target": "/t", "TmpfsOptions": {"SizeBytes": 4096}}]},
    "Mounts": [
        {"Type": "tmpfs", "Source": "", "Destination": "/t", "RW": True},
        {"Type": "volume", "Name": "data", "Source": "/var/lib/x", "Destination": "/d", "RW": True},
        {"Type": "bind", "Source": "/src", "Destination": "/b", "RW": False},
    ],
}


def test_what_is_not_asked_for_is_left_to_the_image() -> None:
    """No setting of the image's is replaced by a default of ours."""
    body = create_body(ContainerSpec(image="box"), "box")

    assert {"Image", "Env", "Labels", "OpenStdin", "HostConfig"} == set(body)
    assert {"Init", "ReadonlyRootfs", "CapDrop", "CapAdd", "SecurityOpt", "Mounts"} == set(body["HostConfig"])


def test_everything_that_is_asked_for_is_told() -> None:
    """Each field of the specification reaches the engine."""
    spec = ContainerSpec(
        image="box",
        command=("a", "b"),
        entrypoint=(),
        env={"A": "1=2"},
        workdir="/w",
        user="1000:1000",
        labels={"k": "v"},
        memory=64 << 20,
        cpus=0.5,
        pids=10,
        network="none",
        init=True,
        read_only=True,
        drop_capabilities=("ALL",),
        add_capabilities=("CHOWN",),
        no_new_privileges=True,
        hostname="h",
        mounts=(
            Mount(source="/s", target="/t", read_only=True),
            Mount(kind="volume", source="v", target="/v"),
            Mount(kind="tmpfs", target="/m", size=4096),
        ),
    )
    expected = {
        "Image": "box@sha256:1",
        "Cmd": ("a", "b"),
        "Entrypoint": [""],
        "Env": ["A=1=2"],
        "WorkingDir": "/w",
        "User": "1000:1000",
        "Labels": {"k": "v"},
        "Hostname": "h",
        "OpenStdin": True,
        "HostConfig": {
            "Memory": 64 << 20,
            "MemorySwap": 64 << 20,
            "NanoCpus": 500_000_000,
            "PidsLimit": 10,
            "NetworkMode": "none",
            "Init": True,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["CHOWN"],
            "SecurityOpt": ["no-new-privileges"],
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": "/s",
                    "Target": "/t",
                    "ReadOnly": True,
                    "BindOptions": {"CreateMountpoint": False},
                },
                {"Type": "volume", "Source": "v", "Target": "/v", "ReadOnly": False},
                {
                    "Type": "tmpfs",
                    "Target": "/m",
                    "ReadOnly": False,
                    "TmpfsOptions": {"Mode": 0o1777, "SizeBytes": 4096},
                },
            ],
        },
    }

    assert expected == create_body(spec, "box@sha256:1")


def test_a_container_is_reported_as_the_engine_sees_it() -> None:
    """Names lose their slash, times are in UTC, mounts are in one order."""
    info = container_info(RAW, oom_known=True)

    assert ("a" * 64, "box", "box:latest", "sha256:" + "b" * 64) == (info.id, info.name, info.image, info.image_id)
    assert (ContainerStatus.RUNNING, None, False, {"k": "v"}, "10.0.0.2") == (
        info.status,
        info.exit_code,
        info.oom_killed,
        info.labels,
        info.ip_address,
    )
    assert datetime(2026, 11, 23, 12, 0, 0, 123456, UTC) == info.created_at
    assert datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC) == info.started_at
    assert (
        Mount(kind="bind", source="/src", target="/b", read_only=True),
        Mount(kind="volume", source="data", target="/d"),
        Mount(kind="tmpfs", target="/t", size=4096),
    ) == info.mounts


def test_podman_tells_of_a_tmpfs_in_a_place_of_its_own() -> None:
    """As options of a mount command."""
    tmpfs = {"/s": "size=4096,mode=1777,rw,nosuid", "/r": "ro"}
    info = container_info({**RAW, "Mounts": [], "HostConfig": {"Tmpfs": tmpfs}}, oom_known=True)

    assert (
        Mount(kind="tmpfs", target="/r", read_only=True),
        Mount(kind="tmpfs", target="/s", size=4096),
    ) == info.mounts


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("created", ContainerStatus.CREATED),
        ("configured", ContainerStatus.CREATED),
        ("running", ContainerStatus.RUNNING),
        ("paused", ContainerStatus.PAUSED),
        ("stopping", ContainerStatus.STOPPING),
        ("removing", ContainerStatus.STOPPING),
        ("restarting", ContainerStatus.EXITED),
        ("exited", ContainerStatus.EXITED),
        ("stopped", ContainerStatus.EXITED),
        ("dead", ContainerStatus.DEAD),
        ("levitating", ContainerStatus.UNKNOWN),
        ("", ContainerStatus.UNKNOWN),
    ],
)
def test_every_state_has_its_status(status: str, expected: ContainerStatus) -> None:
    """A state that a later engine invents is unknown, and no crash."""
    listed = listed_container({"Id": "a", "State": status})

    assert expected == container_info({**RAW, "State": {"Status": status}}, oom_known=True).status == listed.status


def test_the_exit_code_belongs_to_an_end() -> None:
    """A container that runs again shows no code of its last run."""
    state = {"Status": "exited", "ExitCode": 137, "OOMKilled": True}
    ended = container_info({**RAW, "State": state}, oom_known=True)
    unknown = container_info({**RAW, "State": state}, oom_known=False)
    again = container_info({**RAW, "State": {**state, "Status": "running"}}, oom_known=True)

    assert (137, True, None, None) == (ended.exit_code, ended.oom_killed, unknown.oom_killed, again.exit_code)


def test_a_list_entry_may_lack_almost_everything() -> None:
    """Engines leave out what they do not know, or write null."""
    bare = {"Id": "a", "Names": None, "Labels": None, "Mounts": ["/data"], "NetworkSettings": None, "Created": 0}
    full = {
        "Id": "a",
        "Names": ["/other/alias", "/box"],
        "Image": "box",
        "ImageID": "b" * 64,
        "State": "exited",
        "Created": 1795436929,
        "Mounts": RAW["Mounts"],
        "NetworkSettings": RAW["NetworkSettings"],
    }
    info = listed_container(full)

    assert ("", (), "") == (listed_container(bare).name, listed_container(bare).mounts, listed_container(bare).image)
    assert ("box", "sha256:" + "b" * 64, ContainerStatus.EXITED) == (info.name, info.image_id, info.status)
    assert datetime(2026, 11, 23, 12, 28, 49, tzinfo=UTC) == info.created_at
    assert "10.0.0.2" == info.ip_address


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", None, 5, "yesterday"])
def test_what_is_no_time_is_none(text: object) -> None:
    """Go writes its zero time for what has not happened."""
    assert parse_time(text) is None


def test_an_image_is_reported_as_the_engine_sees_it() -> None:
    """Ids have their algorithm, also with Podman, and names that are none are left out."""
    raw = {
        "Id": "b" * 64,
        "RepoTags": ["box:latest", "<none>:<none>"],
        "RepoDigests": ["box@sha256:1", "<none>@<none>"],
        "Size": 5,
        "Os": "linux",
        "Architecture": "arm64",
        "Variant": "v8",
        "Created": "2026-11-23T12:00:00Z",
        "Config": {"Labels": {"k": "v"}},
    }
    expected = ImageInfo(
        id="sha256:" + "b" * 64,
        references=("box:latest",),
        digests=("box@sha256:1",),
        size=5,
        platform="linux/arm64/v8",
        created_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
        labels={"k": "v"},
    )

    assert expected == image_info(raw)
    assert ImageInfo(id="x") == image_info({"Id": "x", "RepoTags": None, "Config": None, "Os": "linux"})


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "linux/386", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/x86_64", "linux/amd64", True),
        ("windows/amd64", "linux/amd64", False),
        ("linux/amd64", "", True),
    ],
)
def test_platforms_are_compared_by_what_they_say(wanted: str, found: str, expected: bool) -> None:
    """Only a variant that one side leaves out is of no matter; an image that says nothing is of any platform."""
    assert expected == matches_platform(wanted, found)


def test_a_processor_runs_its_elders_programs() -> None:
    """An image for 386 needs no emulation on amd64; when a platform is asked for, it is still another one."""
    assert matches_platform("linux/amd64", "linux/386", native=True)
    assert not matches_platform("linux/386", "linux/amd64", native=True)
