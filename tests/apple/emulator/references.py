"""How image references are completed and shortened."""

from typing import NamedTuple

from tests.apple.emulator.failures import Failure

_HEX = frozenset("0123456789abcdef")


class Reference(NamedTuple):
    """A complete reference."""

    domain: str
    path: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def short(self) -> str:
        """The form that tables show."""
        return str(self).removeprefix("docker.io/library/").removeprefix("docker.io/")

    @property
    def host(self) -> str:
        """The host that requests go to."""
        return "registry-1.docker.io" if self.domain == "docker.io" else self.domain


def parse(text: str) -> Reference:
    """Complete a reference: a tag next to a digest is dropped."""
    if len(text) == 64 and set(text) <= _HEX:
        raise Failure("invalidArgument", "cannot specify 64 byte hex string as reference")
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.partition("/")
    has_domain = slash and ("." in head or ":" in head or head.startswith("localhost"))
    domain, path = (head, tail) if has_domain else ("docker.io", rest)
    name, _, tag = path.partition(":") if "/" not in path.rpartition(":")[2] else (path, "", "")
    if "/" in path and ":" in path.rpartition("/")[2]:
        before, _, last = path.rpartition("/")
        last_name, _, tag = last.partition(":")
        name = f"{before}/{last_name}"
    if not name or name != name.lower() or any(sign in name for sign in " @:"):
        raise Failure("invalidArgument", f"invalid format for image reference {text}")
    if domain == "docker.io" and "/" not in name:
        name = f"library/{name}"
    return Reference(domain, name, "" if digest else (tag or "latest"), digest)


def candidates(text: str) -> list[str]:
    """The names under which an image is looked for, in this order."""
    names = [text]
    if "/" not in text and "@" not in text and ":" not in text:
        names.append(f"{text}:latest")
    return [*names, str(parse(text))]
