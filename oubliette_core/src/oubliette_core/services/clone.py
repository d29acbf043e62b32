"""Cloning a git repository on the host.

What is cloned is not trusted, and git is told so: ``https`` and ``ssh`` only, no prompts, no hooks, no submodules, no
configuration but ours (a filter or a credential helper in the user's would be run on what a stranger wrote). After
this, git never runs in a workspace on the host.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from oubliette_core.errors import InvalidValueError, OperationCancelledError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from oubliette_core.models import Cancel

__all__ = ["begin_repository", "check_repository", "clone"]

_LIMIT = 900.0
"""Seconds for a clone."""
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!/)[^:\s]+")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_PASSED_ON = (
    "PATH",
    "LANG",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
)
"""Where to find git and ssh, the user's ssh agent, and how to reach and trust servers.

Not HOME: versions of git before 2.32 cannot be told otherwise to leave the user's configuration alone.
"""
_SETTINGS = (
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
    "credential.helper=",
)
_HINT = "Use https://HOST/PATH, ssh://[USER@]HOST/PATH or [USER@]HOST:PATH."


def check_repository(url: str) -> str:
    """Return the URL of a git repository that may be cloned.

    :raises InvalidValueError: it is no ``https`` or ``ssh`` URL, or has a password in it.
    """
    shown = f"{url!r:.100}"
    if not isinstance(url, str) or not url or len(url) > 2000 or url.startswith("-") or _UNPRINTABLE.search(url):
        raise InvalidValueError(f"{shown} is not the URL of a git repository", value=shown, hint=_HINT)
    if "://" not in url:
        if _SCP_LIKE.fullmatch(url) and not url.partition(":")[2].startswith("-"):
            return url
        raise InvalidValueError(f"{shown} is not the URL of a git repository", value=shown, hint=_HINT)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidValueError("the repository's URL is malformed", hint=_HINT) from None
    if parts.password is not None or (parts.username is not None and parts.scheme == "https"):
        # It would be kept in the workspace, where everything inside can read it. The text is not repeated.
        raise InvalidValueError(
            "the repository's URL has a user or password in it",
            hint="Leave it out; set credentials.github.token in the configuration, or use ssh with a key.",
        )
    if parts.scheme not in ("https", "ssh") or not _HOST.fullmatch(parts.hostname or "") or not parts.path.strip("/"):
        raise InvalidValueError(f"{shown} is not an https or ssh URL of a git repository", value=shown, hint=_HINT)
    if parts.username is not None and not _USER.fullmatch(parts.username):
        raise InvalidValueError(f"{shown} has a malformed user name", value=shown, hint=_HINT)
    return url


def begin_repository(directory: Path, *, environ: Mapping[str, str]) -> None:
    """Make an empty directory a new git repository, without hooks.

    :raises ServiceError: git failed or is not installed.
    """
    argv = [_git(environ, str(directory)), "init", "--quiet", "--template=", "--", str(directory)]
    done = subprocess.run(
        argv, env=_environment(environ, ""), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[-1000:]
        raise ServiceError(f"git could not make a repository: {said}", subject=str(directory))


def _git(environ: Mapping[str, str], subject: str) -> str:
    git = shutil.which("git", path=environ.get("PATH", os.defpath))
    if git is None:
        raise ServiceError(
            "git is not installed on this machine", subject=subject, hint="Install git, or use it inside."
        )
    return git


def clone(
    url: str,
    directory: Path,
    *,
    environ: Mapping[str, str],
    github_token: str = "",
    cancel: Cancel | None = None,
    timeout: float = _LIMIT,
) -> None:
    """Clone a repository into an empty directory.

    :param url: checked by `check_repository`. :param environ: the environment, of which git sees a few variables.
    :param github_token: given to ``https://github.com`` only. :param timeout: seconds.
    :raises ServiceError: git failed, took too long, or is not installed.
    :raises OperationCancelledError: cancelled. What is in ``directory`` then is to be removed.
    """
    git = _git(environ, url)
    options = [word for setting in _SETTINGS for word in ("-c", setting)]
    flags = ["--quiet", "--template=", "--no-recurse-submodules", "--no-hardlinks"]
    argv = [git, *options, "clone", *flags, "--", url, str(directory)]
    process = subprocess.Popen(
        argv,
        env=_environment(environ, github_token),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # to end git together with what it started, and out of reach of a terminal to ask on
    )
    _wait(process, url, cancel, timeout)


def _wait(process: subprocess.Popen[bytes], url: str, cancel: Cancel | None, timeout: float) -> None:
    too_long = threading.Event()

    def give_up() -> None:
        too_long.set()
        _end(process)

    timer = threading.Timer(timeout, give_up)
    timer.start()
    forget = cancel.on_cancel(lambda: _end(process)) if cancel else lambda: None
    try:
        _, printed = process.communicate()
    finally:
        forget()
        timer.cancel()
        _end(process)
    if cancel is not None and cancel.cancelled:
        raise OperationCancelledError("cloning was cancelled", subject=url)
    if too_long.is_set():
        raise ServiceError(f"cloning {url} took longer than {timeout:g} s", subject=url, hint="Clone inside instead.")
    if process.returncode != 0:
        lines = printed.decode(errors="replace").split("\n")
        said = " ".join(" ".join(line for line in lines if line.strip())[-1000:].split())
        raise ServiceError(
            f"{url} could not be cloned: {said or f'git ended with {process.returncode}'}",
            subject=url,
            hint="For a private repository: set credentials.github.token in the configuration, or use ssh with a key "
            "that ssh-agent holds.",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill git and what it started. Once git is known to have ended, its number may be another's."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment(environ: Mapping[str, str], github_token: str) -> dict[str, str]:
    env = {name: environ[name] for name in _PASSED_ON if name in environ}
    env |= {
        "GIT_ALLOW_PROTOCOL": "https:ssh",
        "GIT_ASKPASS": "true",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS": "true",
    }
    if github_token:
        # In the environment, which only this user's processes can read; arguments everybody can.
        basic = base64.b64encode(f"x-access-token:{github_token}".encode()).decode()
        env |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.https://github.com/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }
    return env
