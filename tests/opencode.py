"""opencode, a real agent, from the npm registry into a cache; and a model for it that says what a test wrote down."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from oubliette_core.testing.images import File, Layer, files_layer

VERSION = "1.18.33"
PROGRAM = "/usr/local/bin/opencode"
_PACKAGES = {"x86_64": "opencode-linux-x64", "aarch64": "opencode-linux-arm64"}
_DOWNLOAD_SECONDS = 300


class OpencodeUnavailableError(Exception):
    """It cannot be had here; the message says why."""


def program() -> Path:
    """Return the path of opencode's program, downloading its package if it is not in the cache."""
    package = _PACKAGES.get(platform.machine())
    if package is None or platform.system() != "Linux":
        raise OpencodeUnavailableError(f"no opencode for {platform.system()} {platform.machine()} is used here")
    if platform.libc_ver()[0] != "glibc" or shutil.which("ldd") is None:
        raise OpencodeUnavailableError("opencode needs the C library of GNU, and ldd to find it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oubliette-tests"
    cache.mkdir(parents=True, exist_ok=True)
    found = cache / f"{package}-{VERSION}"
    with (cache / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers may want it at once
        if not found.exists():
            _download(f"{package}@{VERSION}", found)
    return found


def _download(package: str, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise OpencodeUnavailableError("npm is not installed, from whose registry opencode comes")
    work = target.with_name(f"{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        command = [npm, "pack", package, "--pack-destination", str(work), "--loglevel", "error"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False, cwd=work)
        if done.returncode:
            raise OpencodeUnavailableError(f"npm cannot fetch {package}: {done.stderr.strip()[-500:]}")
        with tarfile.open(next(work.glob("*.tgz"))) as archive:
            archive.extract("package/bin/opencode", work, filter="data")
        (work / "package/bin/opencode").rename(target)
    except subprocess.TimeoutExpired:
        raise OpencodeUnavailableError(f"npm did not fetch {package} within {_DOWNLOAD_SECONDS} s") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def layer() -> Layer:
    """Return a layer with opencode and the libraries of this machine that it needs."""
    binary = program()
    binary.chmod(0o755)
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
    files: dict[str, File] = {}
    for path in (Path(PROGRAM), *(Path(name) for name in re.findall(r"(?:=> )?(/\S+) \(0x", listed))):
        source = binary if str(path) == PROGRAM else path
        for parent in reversed(path.parents[:-1]):
            files.setdefault(str(parent), File(mode=0o755))
        files[str(path)] = File(content=source.read_bytes(), mode=0o755)
    return files_layer(files, compression=0)


class Model:
    """A model that calls a shell first, and from then on says that it is done; as OpenAI's API has it.

    :ivar requests: what it was asked, without its keys. :ivar keys: the keys that came with that.
    """

    COMMAND: ClassVar = "echo made by $(id -un) >made.txt; cat made.txt"

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """Serve it on the loopback address; gives its URL."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(model: Model) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler's
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: Any) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                """Answer with a stream of events."""
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.requests.append(asked)
                model.keys.add(self.headers.get("authorization", ""))
                body = "".join(f"data: {json.dumps(event)}\n\n" for event in model.answer(asked)) + "data: [DONE]\n\n"
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

        return Handler

    def answer(self, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the parts of an answer."""
        tools = {tool["function"]["name"] for tool in asked.get("tools", [])}
        deltas: list[dict[str, Any]]
        if "bash" in tools and not any(message["role"] == "tool" for message in asked["messages"]):
            arguments = json.dumps({"command": self.COMMAND, "description": "make a file"})
            function = {"name": "bash", "arguments": arguments}
            call = {"index": 0, "id": "call-1", "type": "function", "function": function}
            deltas, ending = [{"role": "assistant", "tool_calls": [call]}], "tool_calls"
        else:
            deltas, ending = [{"role": "assistant", "content": "The file "}, {"content": "is made."}], "stop"
        about = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": asked.get("model", "m")}
        for delta in deltas:
            yield {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        yield {**about, "choices": [{"index": 0, "delta": {}, "finish_reason": ending}], "usage": usage}


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message to a model."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
