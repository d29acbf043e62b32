"""The emulator prints JSON, tables, logs and errors as the real command does (rules 30 to 40), and fails on demand."""

import base64
import datetime as dt
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.apple.conftest import Install
from tests.apple.installed import PROFILES, Emulator
from tests.apple.test_emulator_exec import until, with_box
from tests.apple.test_emulator_grammar import refused
from tests.images import ImageMaker

_NEVER = 3.0
"""Seconds after which a call that hangs is taken for one that hangs for ever."""


def _http(profile: str) -> tuple[str, ...]:
    """Return what the version needs to fetch from a registry without TLS."""
    return ("--scheme=http",) if profile == "1.4" else ()


def listed(mac: Emulator, *options: str) -> list[dict[str, Any]]:
    """Return what list prints as JSON."""
    found: list[dict[str, Any]] = json.loads(mac.run("list", "--format=json", *options).stdout)
    return found


def test_e30_inspect_and_list(mac: Emulator, image: str) -> None:
    """Inspect is readable and fails as a whole, list is compact and in no order."""
    header = mac.run("list").stdout
    with_box(mac, image)
    mac.run("create", "--name=idle", image)
    pretty, compact = mac.run("inspect", "box").stdout, mac.run("list", "--format=json", "--quiet").stdout

    assert b"ID  IMAGE  OS  ARCH  STATE  IP  CPUS  MEMORY  STARTED\n" == header
    assert pretty.startswith(b'[\n  {\n    "configuration" : {\n      "capAdd" : [\n\n      ],\n')
    assert compact.startswith(b'[{"configuration":{"capAdd":[],')
    assert json.loads(pretty) == json.loads(compact)
    assert "Error: container not found: a, b" == refused(mac, "inspect", "b", "box", "a")
    assert b"box\n" == mac.run("list", "--quiet").stdout
    orders = {mac.run("list", "--all", "--quiet").stdout for _ in range(20)}
    assert {b"box\nidle\n", b"idle\nbox\n"} == orders


def test_e30_before_1_0(install: Install, image: str) -> None:
    """Inspect leaves out what is missing, and before 0.10 lists as JSON have everything."""
    old, older = install("0.12"), install("0.9")
    for mac in (old, older):
        mac.run("create", "--name=idle", image)
    found = old.run("inspect", "idle", "nobody")

    assert (0, ["idle"]) == (found.returncode, [item["configuration"]["id"] for item in json.loads(found.stdout)])
    assert (b"[]\n", 0) == ((nobody := old.run("inspect", "nobody")).stdout, nobody.returncode)
    assert ([], 1) == (listed(old), len(listed(older)))


@pytest.mark.parametrize("profile", PROFILES)
def test_e31_json_of_a_container(install: Install, image: str, profile: str, tmp_path: Path) -> None:
    """Containers have the shape of the version."""
    mac = with_box(install(profile), image, *_http(profile), "--label=k=v", f"--volume={tmp_path}:/shared:ro")
    (found,) = listed(mac)
    configuration = found["configuration"]
    new = profile in ("1.2", "1.4")
    envelope = found["status"] if new else found
    started = envelope["startedDate"]
    now = dt.datetime.now(dt.UTC).timestamp()

    assert rb"virtiofs" in mac.run("list", "--format=json").stdout
    assert "running" == (envelope["state"] if new else found["status"])
    assert ("id" in found, "creationDate" in configuration) == (new, new)
    assert abs((dt.datetime.fromisoformat(started).timestamp() if new else started + 978307200) - now) < 60
    assert re.fullmatch(r"[\d.]+/\d+", envelope["networks"][0]["ipv4Address"])
    assert {"type": {"virtiofs": {}}, "source": str(tmp_path), "destination": "/shared", "options": ["ro"]} in (
        configuration["mounts"]
    )
    assert ("useInit" in configuration, "capAdd" in configuration) == (profile != "0.9", profile != "0.9")
    assert (image, {"k": "v"}) == (configuration["image"]["reference"], configuration["labels"])
    assert b"\\/shared" in mac.run("list", "--format=json").stdout
    assert None not in configuration.values()


@pytest.mark.parametrize("profile", PROFILES)
def test_e31_json_of_an_image(install: Install, image: str, profile: str) -> None:
    """Images have the shape of the version."""
    mac = install(profile)
    mac.run("image", "pull", *_http(profile), image)
    (found,) = json.loads(mac.run("image", "inspect", image).stdout)
    (line,) = json.loads(mac.run("image", "list", "--format=json").stdout)
    new = profile in ("1.2", "1.4")

    assert image == (found["configuration"]["name"] if new else found["name"])
    assert ("digest" in found["variants"][0], "fullSize" in line) == (new, profile == "0.12")
    assert image == (line["configuration"]["name"] if new else line["reference"])
    if new:
        assert f"sha256:{found['id']}" == found["configuration"]["descriptor"]["digest"]


def test_e32_logs(mac: Emulator, image: str) -> None:
    """Logs are trimmed, without the output of other commands, and following never ends."""
    script = r"printf '\n\none\n\ntwo\n'; sleep 0.3; echo three >&2; sleep 0.3; printf '\n\n'; exec sleep 1000"
    mac.run("create", "--name=never", image)
    mac.run("run", "-d", "--init", "--name=box", image, "sh", "-c", script)
    until(lambda: b"three" in mac.run("logs", "box").stdout)
    mac.run("exec", "box", "echo", "from exec")
    whole, last = mac.run("logs", "box").stdout, mac.run("logs", "-n", "2", "box").stdout
    follow = mac.popen("logs", "-f", "box")
    assert follow.stdout
    lines = [follow.stdout.readline() for _ in range(3)]
    mac.run("stop", "box")
    with pytest.raises(subprocess.TimeoutExpired):
        follow.wait(1)
    follow.kill()
    follow.communicate()

    assert (b"one\n\ntwo\nthree\n", b"two\nthree\n") == (whole, last)
    assert [b"one\n", b"two\n", b"three\n"] == lines
    assert refused(mac, "logs", "never").startswith("Error: failed to get logs for container never (cause: ")
    cause = 'internalError: "failed to open container logs: notFound: "container with ID nobody not found""'
    assert f'Error: failed to get logs for container nobody (cause: "{cause}")' == refused(mac, "logs", "nobody")


def test_e32_logs_are_cut_at_each_start_and_have_to_be_text(mac: Emulator, image: str) -> None:
    """Only the last run is in the log, and only when it is UTF-8."""
    mac.run("run", "-d", "--init", "--name=box", image, "sh", "-c", "echo begun; exec sleep 1000")
    mac.run("run", "--name=bytes", image, "printf", r"\377")
    until(lambda: mac.run("logs", "box").stdout == b"begun\n")
    mac.run("stop", "box")
    mac.run("start", "box")
    until(lambda: mac.run("logs", "box").stdout != b"\n")

    assert b"begun\n" == mac.run("logs", "box").stdout
    assert "Error: failed to convert container logs to utf8" == refused(mac, "logs", "bytes")


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("0.9", 'Error: notFound: "get failed: container nobody not found"'),
        ("0.12", "Error: get failed: container nobody not found"),
        ("1.2", "Error: get failed: container nobody not found"),
    ],
)
def test_e33_shapes_of_errors(install: Install, profile: str, text: str) -> None:
    """The code of an error is printed in old versions only."""
    assert text == refused(install(profile), "start", "nobody")


def test_e33_the_service_is_down_in_0_9(install: Install) -> None:
    """Old versions wrap the error of a lost connection once more."""
    mac = install("0.9")
    mac.service(up=False)

    assert refused(mac, "list").startswith('Error: interrupted: "internalError: "failed to list containers" (cause: ')


@pytest.mark.parametrize(("profile", "polluted"), [("0.9", True), ("0.12", True), ("1.2", False)])
def test_e34_pollution_of_stdout(install: Install, image: str, tmp_path: Path, profile: str, *, polluted: bool) -> None:
    """Old versions print on standard output what is no data."""
    mac = install(profile)
    mac.service(up=False)
    started = mac.run("system", "start").stdout
    mac.run("image", "pull", image)
    mac.run("image", "save", f"--output={tmp_path}/saved.tar", image)
    deleted = mac.run("image", "delete", image).stdout
    loaded = mac.run("image", "load", f"--input={tmp_path}/saved.tar").stdout

    assert (polluted, polluted) == (bool(started), b"Reclaimed" in deleted)
    assert (polluted, True) == (loaded.startswith(b"Loaded images:\n"), loaded.endswith(f"{image}\n".encode()))


def test_e35_labels_sizes_cpus(mac: Emulator, image: str) -> None:
    """A label has one equals sign, a bare number is bytes, and processors are whole."""
    assert "Error: invalid label format a=b=c" == refused(mac, "create", "--label=a=b=c", image)
    assert "Error: minimum memory amount allowed is 200 MiB (got 0 bytes)" == refused(
        mac, "create", "-m", "1024", image
    )
    for number, text in enumerate(("256m", "262144K", "268435456", "256MiB", "256mb")):
        mac.run("create", f"--name=box{number}", "-m", text, "--label=empty=", image)
    sizes = {item["configuration"]["resources"]["memoryInBytes"] for item in listed(mac, "--all")}

    assert {1 << 28} == sizes
    assert 64 == mac.run("create", "--cpus=0.5", image).returncode


def test_e36_mounts(mac: Emulator, image: str, tmp_path: Path) -> None:
    """Sources have to exist, named volumes are made on the way, and a path of --tmpfs is taken literally."""
    file = tmp_path / "file"
    file.write_text("content")
    absent = tmp_path / "absent"
    notice = mac.run("create", "--volume=cache:/cache", "--name=box", image)
    literal = mac.run("create", "--tmpfs=/scratch:size=1m", "--name=tmp", image)
    (mount,) = json.loads(mac.run("inspect", "tmp").stdout)[0]["configuration"]["mounts"]

    assert f"Error: path '{absent}' does not exist" == refused(mac, "create", f"-v={absent}:/x", image)
    assert f"Error: path '{file}' is not a directory" == refused(
        mac, "create", f"--mount=source={file},target=/x", image
    )
    assert b'named volume was automatically created: ["volume": "cache"]\n' == notice.stderr
    assert (0, "/scratch:size=1m") == (literal.returncode, mount["destination"])
    assert b"content" == mac.run("run", "--progress=none", f"-v={file}:/given", image, "cat", "/given").stdout


def test_e37_networks(mac: Emulator, image: str) -> None:
    """Networks have to exist, and none is alone."""
    both = refused(mac, "create", "--network=none", "--network=default", image)

    assert "Error: no other networks may be created along with network none" == both
    assert "Error: network nowhere not found" == refused(mac, "create", "--network=nowhere", image)
    assert 64 == mac.run("create", "--no-dns", "--dns=1.1.1.1", image).returncode
    assert b"own\n" == mac.run("network", "create", "own").stdout
    assert 0 == mac.run("create", "--network=own", image).returncode


@pytest.mark.parametrize(("profile", "works"), [("1.2", True), ("1.4", False)])
def test_e38_schemes(install: Install, image: str, profile: str, *, works: bool) -> None:
    """From 1.3 on plain HTTP has to be asked for."""
    mac = install(profile)
    given, default = mac.run("image", "pull", "--scheme=auto", image), mac.run("image", "pull", image)

    assert (works, works) == (given.returncode == 0, default.returncode == 0)
    assert works or given.stderr.endswith(b"Error: unsupported scheme auto\n")
    assert 0 == mac.run("image", "pull", "--scheme=http", image).returncode


def test_e39_references(mac: Emulator, images: ImageMaker, registry: str) -> None:
    """References are completed for JSON and shortened for tables."""
    pushed = images.push("alpine", "latest")
    mac.configure(hosts={"docker.io": registry})
    repository = pushed.repository  # two components, so that nothing is put in front of them
    mac.run("image", "pull", f"{repository}:latest")
    names = [repository, f"{repository}:latest", f"docker.io/{repository}", f"{repository}:latest@{pushed.digest}"]
    codes = [mac.run("image", "inspect", name).returncode for name in names]
    table = mac.run("image", "list", "--quiet").stdout.decode()
    (line,) = json.loads(mac.run("image", "list", "--format=json").stdout)

    assert [0, 0, 0, 1] == codes
    assert (f"{repository}:latest\n", f"docker.io/{repository}:latest") == (table, line["configuration"]["name"])


def test_e40_pull(mac: Emulator, image: str, registry: str) -> None:
    """Pull prints nothing, and its errors name the host that was asked."""
    mac.configure(hosts={"docker.io": registry})
    pulled = mac.run("image", "pull", image)
    absent = refused(mac, "image", "pull", "absent:v1")
    url = "https://registry-1.docker.io/v2/library/absent/manifests/v1"

    assert (0, b"") == (pulled.returncode, pulled.stdout)
    assert absent.endswith(f"Error: HTTP request to {url} failed with response: 404 Not Found. Reason: Unknown")
    none = refused(mac, "image", "pull", "--max-concurrent-downloads=0", image)
    assert "Error: maximum number of concurrent downloads must be greater than 0, got 0" == none
    unresolved = refused(mac, "image", "pull", "registry.example.com/x:1")
    assert unresolved.endswith("failed to resolve either repository hostname registry.example.com")


def test_fault_hang(mac: Emulator, image: str) -> None:
    """A call can be told to hang at each of these points."""
    points = {
        "list": "list",
        "inspect": "inspect box",
        "create": f"create {image}",
        "bootstrap": "start idle",
        "exec-wait": "exec box true",
        "stop": "stop box",
        "delete": "delete box",
        "pull": f"image pull {image}",
        "status": "system status",
    }
    with_box(mac, image)
    mac.run("create", "--name=idle", image)
    mac.fault(hang=list(points))
    hanging = {point: mac.popen(*command.split()) for point, command in points.items()}
    time.sleep(_NEVER)  # what hangs makes no event
    ended = {point: call.poll() for point, call in hanging.items()}
    mac.fault(hang="exec-start")
    with pytest.raises(subprocess.TimeoutExpired):
        mac.run("exec", "box", "true", timeout=_NEVER)
    for call in hanging.values():
        call.kill()
        call.communicate()

    assert dict.fromkeys(points) == ended


def test_faults(mac: Emulator, image: str) -> None:
    """What can go wrong goes wrong when it is asked for."""
    with_box(mac, image)
    mac.fault(xpc_timeout_create=1)
    timeouts = [mac.run("create", image).returncode for _ in range(2)]
    mac.fault(skew=True)
    skewed = refused(mac, "list", "--format=json")
    mac.fault(unknown_state="hibernating", extra_keys=True)
    (strange,) = listed(mac)
    mac.fault(garbage=True)
    garbage = mac.run("list", "--format=json").stdout
    mac.fault(die_mid_exec=True)
    died = mac.run("exec", "box", "sh", "-c", "echo begun; sleep 1000")
    mac.fault()
    mac.service(up=True)
    mac.fault(stuck_running=True)
    mac.run("exec", "box", "sh", "-c", "kill -TERM 1")
    mac.run("stop", "box")
    stuck = listed(mac)

    assert [1, 0] == timeouts
    assert "keyNotFound(" in skewed
    assert ("hibernating", True) == (strange["status"]["state"], "futureKey" in strange)
    assert garbage.endswith(b"}]\nfatal: unexpected trailing output\n")
    assert (1, b"begun\n", True) == (died.returncode, died.stdout, b"Connection interrupted" in died.stderr)
    assert "running" == stuck[0]["status"]["state"]


def test_calls_are_recorded(mac: Emulator) -> None:
    """Arguments and environment of every call are kept for the test."""
    secret = base64.b64encode(b"made up").decode()
    mac.run("list", "--all", env={"CANARY": secret})

    assert [["list", "--all"]] == mac.argv("list")
    assert secret == mac.calls()[-1]["env"]["CANARY"]
