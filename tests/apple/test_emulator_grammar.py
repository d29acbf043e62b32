"""The emulator reads arguments and tells of the service as the real command does (rules 1 to 11)."""

import json
import select
import subprocess

import pytest

from tests.apple.conftest import Install
from tests.apple.installed import PROFILES, Emulator

_USAGE_ERRORS = (
    ("create", "--unheard-of", "alpine"),
    ("create", "--name"),
    ("create",),
    ("exec", "box"),
    ("list", "--format=xml"),
    ("image", "pull", "--progress=fancy", "alpine"),
    ("start", "one", "two"),
    ("create", "--cpus=1.5", "alpine"),
)
_DOCKER_ONLY = ("--hostname=x", "--privileged", "--pids-limit=5", "--security-opt=x", "--restart=no", "--pull=never")
_DOWN = "XPC connection error: Connection invalid"
_ADVICE = "\nEnsure container system service has been started with `container system start`."


def refused(mac: Emulator, *arguments: str) -> str:
    """Call the command, which has to fail without a word on standard output, and return what it says."""
    answer = mac.run(*arguments)

    assert (1, b"") == (answer.returncode, answer.stdout)
    return answer.stderr.decode().rstrip("\n")


@pytest.mark.parametrize("arguments", _USAGE_ERRORS, ids=" ".join)
def test_e01_usage_errors(mac: Emulator, arguments: tuple[str, ...]) -> None:
    """Wrong arguments exit with 64, say so on standard error only, and show how the command is called."""
    answer = mac.run(*arguments)

    assert (64, b"") == (answer.returncode, answer.stdout)
    assert answer.stderr.startswith(b"Error: ")
    assert f"Usage: container {arguments[0]}".encode() in answer.stderr


@pytest.mark.parametrize(
    ("profile", "flag"),
    [
        *(("1.2", flag) for flag in _DOCKER_ONLY),
        ("0.9", "--init"),
        ("0.9", "--cap-drop=ALL"),
        ("0.12", "--shm-size=64m"),
        ("0.12", "--masked-path=/x"),
    ],
)
def test_e02_unknown_and_newer_flags(install: Install, profile: str, flag: str) -> None:
    """Options of other engines and of later versions are unknown."""
    answer = install(profile).run("create", flag, "alpine")

    assert 64 == answer.returncode
    assert f"Unknown option '{flag.partition('=')[0]}'".encode() in answer.stderr


def test_e03_values_that_begin_with_a_dash(mac: Emulator, image: str) -> None:
    """A value that begins with a dash has to be in the same word as its option."""
    detached = mac.run("create", "--label", "-x", image)
    joined = mac.run("create", "--label=-x", "-it", "--name=box", image)

    assert (64, True) == (detached.returncode, b"Missing value for '--label" in detached.stderr)
    assert (0, b"box\n") == (joined.returncode, joined.stdout)


def test_e04_nothing_is_parsed_after_the_image(mac: Emulator, image: str) -> None:
    """Everything after the image or the container is the program's, also two dashes."""
    ran = mac.run("run", image, "--name", "x")
    mac.run("run", "-d", "--name=box", image)
    dashes = mac.run("exec", "box", "--", "ls")

    assert (1, True) == (ran.returncode, b"failed to find target executable --name" in ran.stderr)
    assert (1, True) == (dashes.returncode, b"failed to find target executable --" in dashes.stderr)


@pytest.mark.parametrize("word", ["ps", "images", "version", "info"])
def test_e05_unknown_commands(mac: Emulator, word: str) -> None:
    """An unknown command is taken for a plugin, with other words when the service is down."""
    up = mac.run(word)
    mac.service(up=False)
    down = mac.run(word)

    assert (64, 64, b"", b"") == (up.returncode, down.returncode, up.stdout, down.stdout)
    assert up.stderr.startswith(f"Error: Plugin 'container-{word}' not found.".encode())
    assert down.stderr.startswith(b"Error: Plugins are unavailable. Start the container system services and retry:")


@pytest.mark.parametrize("profile", PROFILES)
def test_e06_version_and_help(install: Install, profile: str) -> None:
    """Version and help need no service."""
    mac = install(profile)
    mac.service(up=False)
    version, usage = mac.run("--version"), mac.run("run", "--help")

    assert 0 == version.returncode
    assert version.stdout.startswith(f"container CLI version {profile}.".encode())
    assert version.stdout.endswith(b" (build: release, commit: 0190097)\n")
    assert (0, True, b"") == (usage.returncode, b"container run" in usage.stdout, usage.stderr)


@pytest.mark.parametrize("command", ["stop", "kill", "delete"])
def test_e07_no_containers_or_too_many(mac: Emulator, command: str) -> None:
    """No containers, or containers besides all of them, exit with 1 and not with 64."""
    assert "Error: no containers specified and --all not supplied" == refused(mac, command)
    conflict = "Error: explicitly supplied container IDs conflict with the --all flag"
    assert conflict == refused(mac, command, "--all", "box")


@pytest.mark.parametrize("command", ["list", "inspect box", "start box", "exec box ls"])
def test_e08_service_down_where_containers_are_listed(mac: Emulator, command: str) -> None:
    """These commands list containers first, and say that this failed."""
    mac.service(up=False)
    cause = f'(cause: "interrupted: "{_DOWN}"")'

    assert f'Error: internalError: "failed to list containers" {cause}{_ADVICE}' == refused(mac, *command.split())


@pytest.mark.parametrize(
    "command",
    ["create alpine", "run alpine", "image inspect alpine", "image list", "stop box", "kill box", "delete box"],
)
def test_e08_service_down_elsewhere(mac: Emulator, command: str) -> None:
    """The other commands say what broke, with its code."""
    mac.service(up=False)

    assert f'Error: interrupted: "{_DOWN}"{_ADVICE}' == refused(mac, *command.split())


def test_e08_state_is_shared_by_processes(mac: Emulator, image: str) -> None:
    """Processes at once all see one state, and none undoes another's change."""
    mac.run("image", "pull", image)
    calls = [mac.popen("create", f"--name=box{number}", image) for number in range(5)]
    codes = [(call.communicate(timeout=60), call.returncode)[1] for call in calls]
    names = sorted(mac.run("list", "--all", "--quiet").stdout.split())

    assert ([0] * 5, [f"box{number}".encode() for number in range(5)]) == (codes, names)


@pytest.mark.parametrize("profile", PROFILES)
def test_e09_status_and_version(install: Install, profile: str) -> None:
    """The state of the service is told on standard output, whether it runs or not."""
    mac = install(profile)
    up = mac.run("system", "status")
    mac.service(up=False)
    down = mac.run("system", "status")
    versions = mac.run("system", "version", "--format=json")

    assert (0, 1) == (up.returncode, down.returncode)
    assert b"apiserver is not running" in down.stdout
    assert (0, 1) == (versions.returncode, len(json.loads(versions.stdout)))


@pytest.mark.parametrize(("profile", "key"), [("0.12", "apiServerVersion"), ("1.2", "appRoot"), ("1.4", "server")])
def test_e09_status_as_json(install: Install, profile: str, key: str) -> None:
    """The state as JSON has the shape of the version."""
    mac = install(profile)
    up = json.loads(mac.run("system", "status", "--format=json").stdout)
    mac.service(up=False)
    down = json.loads(mac.run("system", "status", "--format=json").stdout)

    assert ("running", True, "unregistered") == (up["status"], key in up, down["status"])
    assert ["container", "container-apiserver"] == [
        item["appName"] for item in json.loads(install(profile).run("system", "version", "--format=json").stdout)
    ]


def test_e10_start_asks_for_a_kernel(mac: Emulator) -> None:
    """Without a kernel and a flag, start asks, fails at the end of input, and waits on an open one."""
    mac.service(up=False, kernel=False)
    at_end = mac.run("system", "start")
    waiting = mac.popen("system", "start", stderr=subprocess.DEVNULL, bufsize=0)
    assert waiting.stdout
    asked = waiting.stdout.read(42)
    silent, _, _ = select.select([waiting.stdout], [], [], 0.5)
    assert waiting.poll() is None
    waiting.kill()
    waiting.communicate()
    installed = mac.run("system", "start", "--enable-kernel-install")

    assert (1, True) == (at_end.returncode, b"Error: failed to read user input" in at_end.stderr)
    assert b"Install the recommended default kernel fro" == asked
    assert [waiting.stdout] == silent  # the rest of the question
    assert 0 == installed.returncode
    assert 0 == mac.run("system", "start").returncode


def test_e11_restart_of_the_service(mac: Emulator, image: str) -> None:
    """Containers that remove themselves are gone after a restart, others are stopped and were never started."""
    mac.run("run", "-d", "--rm", "--name=passing", image)
    mac.run("run", "-d", "--name=staying", image)
    mac.service(up=False)
    mac.run("system", "start")
    (left,) = json.loads(mac.run("list", "--all", "--format=json").stdout)

    assert "staying" == left["id"]
    assert {"state": "stopped", "networks": []} == left["status"]
