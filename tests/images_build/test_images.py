"""The shipped images hold what the documentation promises of them, looked at from inside."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import Any

import pytest

from tests.images_build.conftest import Built

pytestmark = pytest.mark.timeout(1800)  # the first test waits for both builds


def _config(built: Built, image: str) -> dict[str, Any]:
    return json.loads(built.docker("image", "inspect", f"oubliette-{image}:{built.tag}"))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("image", ["base", "dev"])
def test_it_runs_as_gogol(built: Built, image: str) -> None:
    """Uid 1000, with a home and a workspace that are writable, and no way to become root."""
    assert "1000 gogol /home/gogol" == built.run(image, 'echo "$(id -u) $(id -un) $HOME"')
    assert "/workspace" == built.run(image, "touch /workspace/file ~/file; pwd")
    assert "" == built.run(image, "command -v sudo || true")


@pytest.mark.parametrize("tool", ["wget", "gpg", "gnupg", "jq", "sudo", "cc", "python3"])
def test_the_base_has_nothing_more(built: Built, tool: str) -> None:
    """What an agent does not need is only there for an attacker."""
    assert "absent" == built.run("base", f"command -v {tool} || echo absent")


@pytest.mark.parametrize(
    ("command", "beginning"),
    [
        ("curl --version", "curl "),
        ("git --version", "git version 2"),
        ("ssh -V 2>&1", "OpenSSH_"),
        ("ps --version", "ps from procps"),
        ("rg --version", "ripgrep "),
        ("opencode --version", "1."),
        ("ls /etc/ssl/certs/ca-certificates.crt", "/etc/ssl"),
    ],
)
def test_the_tools_of_the_base_answer(built: Built, command: str, beginning: str) -> None:
    """In both images, without a network."""
    for image in ("base", "dev"):
        assert built.run(image, command).startswith(beginning)


def test_ripgrep_is_new_enough(built: Built) -> None:
    """14.1 or later: agents use options of it."""
    version = built.run("base", "rg --version").split()[1]

    assert (14, 1) <= tuple(int(part) for part in version.split(".")[:2])


@pytest.mark.parametrize("locale", ["C.UTF-8", "en_US.UTF-8"])
def test_text_is_utf_8(built: Built, locale: str) -> None:
    """By default, and in the language that programs expect most."""
    assert "UTF-8" == built.run("base", f"LC_ALL={locale} locale charmap")
    assert "UTF-8" == built.run("base", "locale charmap")


def test_the_base_is_small(built: Built) -> None:
    """Below 400 MB: it is pulled before the first project runs."""
    assert 400_000_000 > _config(built, "base")["Size"]


@pytest.mark.parametrize("image", ["base", "dev"])
def test_labels_say_where_it_comes_from(built: Built, image: str) -> None:
    """Those of the OCI image specification."""
    labels = _config(built, image)["Config"]["Labels"]

    assert (built.revision, "0+local") == (
        labels["org.opencontainers.image.revision"],
        labels["org.opencontainers.image.version"],
    )
    assert labels["org.opencontainers.image.source"].endswith("/oubliette")


def test_dev_stands_on_the_base(built: Built) -> None:
    """All layers of the base come first."""
    base, dev = (_config(built, image)["RootFS"]["Layers"] for image in ("base", "dev"))

    assert base == dev[: len(base)]


@pytest.mark.parametrize(
    "tool", ["make", "cmake", "uv", "uvx", "node", "npm", "npx", "gh", "glab", "pkg-config", "python3"]
)
def test_the_tools_of_dev_answer(built: Built, tool: str) -> None:
    """As gogol, without a network."""
    assert built.run("dev", f"{tool} --version")


def test_dev_compiles(built: Built) -> None:
    """C, C++ and a Python environment."""
    program = "int main(void) { return 0; }"
    built.run("dev", f"echo '{program}' > a.c; cc a.c && ./a.out; cp a.c b.cc; c++ b.cc && ./a.out")

    assert "3" == built.run("dev", "python3 -m venv v && v/bin/python -c 'import sys; print(sys.version_info[0])'")
    assert "2" == built.run("dev", "node -e 'console.log(1+1)'")


def test_opencode_speaks_the_agent_client_protocol(built: Built) -> None:
    """`opencode acp` answers the first request of a session, without a network."""
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": 1, "clientCapabilities": {}},
    }
    name = f"oubliette-test-{uuid.uuid4().hex[:10]}"
    built.docker("run", "--detach", "--name", name, "--network", "none", f"oubliette-base:{built.tag}", "sleep", "600")
    try:
        with subprocess.Popen(
            [str(built.engine.docker_cli), "--host", built.engine.docker_host, "exec", "-i", name, "opencode", "acp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as agent:
            assert agent.stdin is not None
            assert agent.stdout is not None
            agent.stdin.write(json.dumps(request) + "\n")
            agent.stdin.flush()
            answer = json.loads(agent.stdout.readline())
            agent.stdin.close()
            agent.kill()
    finally:
        built.docker("rm", "--force", name)

    assert (1, 1) == (answer["id"], answer["result"]["protocolVersion"])


def test_build_says_what_to_do_next(built: Built) -> None:
    """With a command that can be copied."""
    assert "OUBLIETTE_DEV=1" in built.said
    assert f"oubliette-dev:{built.tag}" in built.said
