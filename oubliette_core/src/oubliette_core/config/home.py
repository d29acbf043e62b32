"""The home: the directory that holds everything Oubliette keeps.

    <home>/config/oubliette.jsonc       the configuration
    <home>/config/oubliette.lock        the digests of its images, once they are locked
    <home>/data/home-id                 tells one home's containers from another's
    <home>/data/oubliette.db            projects, sessions, events, tokens
    <home>/data/projects/<id>/          workspace and home of each project
    <home>/data/locks/  logs/  cache/

Everything in it is for its owner alone: directories have mode 0700 and files 0600, whatever the umask.
"""

from __future__ import annotations

import base64
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from oubliette_core.errors import ConfigError

LOCAL_HOME = ".oubliette"
"""Name of the home in a working directory, and of the one in the user's own."""
_ID = r"[a-z2-7]{12}"
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\udc80-\udcff]"


@attrs.frozen(kw_only=True)
class Home:
    """One home, whether or not it exists yet.

    :param path: absolute, without symbolic links.
    :param found_by: what named it: ``--dir``, ``OUBLIETTE_HOME``, ``./.oubliette`` or ``~/.oubliette``.
    :param note: why a ``./.oubliette`` that is there was passed over; empty if none was.
    """

    path: Path
    found_by: str = "--dir"
    note: str = ""

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.path / "config" / "oubliette.jsonc"

    @property
    def lock_file(self) -> Path:
        """The digests that container types are held to, where `oubliette image lock` has written them."""
        return self.path / "config" / "oubliette.lock"

    @property
    def data_dir(self) -> Path:
        """What Oubliette keeps; nothing in it is for editing."""
        return self.path / "data"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.data_dir / "oubliette.db"

    @property
    def projects_dir(self) -> Path:
        """One directory a project, named by its id."""
        return self.data_dir / "projects"

    @property
    def locks_dir(self) -> Path:
        """Lock files, shared by all processes that use this home."""
        return self.data_dir / "locks"

    @property
    def logs_dir(self) -> Path:
        """The server's logs."""
        return self.data_dir / "logs"

    @property
    def cache_dir(self) -> Path:
        """What can be made again."""
        return self.data_dir / "cache"

    def project_dir(self, project_id: str) -> Path:
        """Directory of one project: below it are ``workspace`` and ``home``."""
        return self.projects_dir / project_id

    def workspace_dir(self, project_id: str) -> Path:
        """What a project's container sees as ``/workspace``."""
        return self.project_dir(project_id) / "workspace"

    def project_home_dir(self, project_id: str) -> Path:
        """What a project's container has as HOME."""
        return self.project_dir(project_id) / "home"

    @property
    def exists(self) -> bool:
        """Whether `create` has been here, as far as can be seen."""
        try:
            return self._id_file.is_file()
        except OSError:
            return False

    @property
    def id(self) -> str:
        """The home's id: 12 lower-case base32 characters, the same for as long as the home exists.

        :raises ConfigError: there is no home here, it is damaged, or it cannot be read.
        """
        try:
            text = self._id_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise ConfigError(f"there is no Oubliette home at {self.path}", hint=self._init_hint()) from None
        except (OSError, ValueError) as error:
            raise self._unusable(self._id_file, error) from error
        if not re.fullmatch(_ID, text):
            raise ConfigError(
                f"{self._id_file} does not hold the id of a home",
                hint="Restore it from a backup: containers of this home are found by their label dev.oubliette.home.",
            )
        return text

    def check(self) -> None:
        """See that there is a home, and that it can be trusted: it is ours, and nobody else writes to it.

        :raises ConfigError: it cannot be used; the text says why and the hint what to do.
        """
        self._check_directory()
        _ = self.id

    def _check_directory(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise ConfigError(f"there is no Oubliette home at {self.path}", hint=self._init_hint()) from None
        except OSError as error:
            raise self._unusable(self.path, error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{self.path} is not a directory", hint="Choose another with --dir.")
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"{self.path} belongs to {_user_name(status.st_uid)}, and this is {_user_name(os.geteuid())}",
                hint="Run this as its owner, or choose another home with --dir or OUBLIETTE_HOME.",
            )
        if status.st_mode & 0o022:
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(
                f"others can write to {self.path} (mode {mode:04o})", hint=f"Close it: chmod go-w {self.path}"
            )

    def create(self) -> None:
        """Make the home with all its directories, each for its owner alone whatever the umask. Idempotent.

        Any number of processes may do this at the same time: all see the same id afterwards.

        :raises ConfigError: it belongs to somebody else, others can write to it, or it cannot be written.
        """
        try:
            self._make_root()
            self._check_directory()
            for directory in (
                self.config_file.parent,
                self.data_dir,
                self.projects_dir,
                self.locks_dir,
                self.logs_dir,
                self.cache_dir,
            ):
                make_private_dir(directory)
            if not self._id_file.exists():
                self._create_id()
        except OSError as error:
            raise self._unusable(Path(error.filename or self.path), error) from error

    @property
    def _id_file(self) -> Path:
        return self.data_dir / "home-id"

    def _make_root(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            make_private_dir(self.path)
        elif self.path.stat().st_uid == os.geteuid() and (self.exists or not any(self.path.iterdir())):
            # An empty directory becomes a home; one that holds other things keeps the mode that these may rely on.
            self.path.chmod(0o700)

    def _create_id(self) -> None:
        # Imported here: needed once in a home's life.
        from filelock import FileLock  # noqa: PLC0415

        with FileLock(self.locks_dir / "home-id.lock", mode=0o600):
            if not self._id_file.exists():
                text = base64.b32encode(os.urandom(10)).decode("ascii").lower()[:12]
                write_private_file(self._id_file, f"{text}\n".encode("ascii"))

    def _init_hint(self) -> str:
        directory = "" if self.found_by == "~/.oubliette" else f" --dir {self.path}"
        return f"Make it: oubliette{directory} init"

    def _unusable(self, path: Path, error: Exception) -> ConfigError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ConfigError(
            f"the home {self.path} cannot be used: {path}: {reason}",
            hint="Check its owner, its mode and the file system, or choose another with --dir or OUBLIETTE_HOME.",
        )


def find_home(
    directory: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str],
    cwd: Path | None = None,
) -> Home:
    """Find the home: ``directory`` (``--dir``) > ``OUBLIETTE_HOME`` > ``./.oubliette`` > ``~/.oubliette``.

    ``./.oubliette`` counts only if it is a directory, no symbolic link, ours and open to nobody else (0700): a cloned
    repository may bring one. Nothing is created and nothing is read: see `Home.check` and `Home.create`.

    :param environ: the environment, read for ``OUBLIETTE_HOME`` and ``HOME``.
    :param cwd: the working directory; None for the process's own.
    :raises ConfigError: the directory's name cannot be used, or there is no way to tell the user's own directory.
    """
    base = cwd or _working_directory()
    if directory is not None:
        return Home(path=_resolve(os.fspath(directory), base, environ, "--dir"), found_by="--dir")
    if environ.get("OUBLIETTE_HOME"):
        path = _resolve(environ["OUBLIETTE_HOME"], base, environ, "OUBLIETTE_HOME")
        return Home(path=path, found_by="OUBLIETTE_HOME")
    local = base / LOCAL_HOME if base else None
    refusal = _why_not(local) if local else None
    if local and refusal == "":
        return Home(path=local.resolve(), found_by="./.oubliette")
    path = _resolve(f"~/{LOCAL_HOME}", base, environ, "~/.oubliette")
    note = f"{local} is passed over: {refusal}" if refusal and local != path else ""
    return Home(path=path, found_by="~/.oubliette", note=note)


def make_private_dir(path: Path) -> None:
    """Make a directory with mode 0700 whatever the umask; one that exists gets that mode.

    :raises OSError: it cannot be made, is a symbolic link or something else than a directory.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def write_private_file(path: Path, data: bytes) -> None:
    """Replace a file in one step by one with mode 0600; whoever reads it sees the old content or the new, never half.

    :raises OSError: the directory is missing or cannot be written; the old file is still there.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None  # somebody removed it; an absolute path still works


def _resolve(text: str, base: Path | None, environ: Mapping[str, str], origin: str) -> Path:
    if not text or re.search(_UNPRINTABLE, text):
        raise ConfigError(f"{origin} does not name a directory: {text!r}")
    if text == "~" or text.startswith("~/"):
        text = f"{_user_dir(environ)}{text[1:]}"
    if base is None and not text.startswith("/"):
        raise ConfigError(f"{origin} names {text}, and there is no working directory any more")
    return (base or Path("/")).joinpath(text).resolve()


def _user_dir(environ: Mapping[str, str]) -> str:
    if environ.get("HOME", "").startswith("/"):
        return environ["HOME"].rstrip("/")
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise ConfigError(
            "there is no HOME and no user entry to take it from", hint="Set OUBLIETTE_HOME, or use --dir."
        ) from None


def _why_not(path: Path) -> str | None:
    """Tell why a local home is not to be trusted; empty if it is, None if there is nothing."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    if status.st_uid != os.geteuid():
        return f"it belongs to {_user_name(status.st_uid)}"
    mode = stat.S_IMODE(status.st_mode)
    return "" if mode == 0o700 else f"its mode is {mode:04o}, not 0700"


def _user_name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"
