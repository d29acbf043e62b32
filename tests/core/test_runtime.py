"""The typed face of a backend."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from oubliette_core.errors import InvalidValueError, PluginError, PluginLoadError, UnsupportedError
from oubliette_core.hookspecs import CORE_HOOKS, OPTIONAL_HOOKS, SERVER_HOOKS, RuntimeSpec, hookimpl
from oubliette_core.models import Capability, ContainerInfo, ContainerSpec, ContainerStatus, ImageInfo, LogSpec, Probe
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime


def info(spec: ContainerSpec | None = None) -> ContainerInfo:
    """Describe a container that was made from ``spec``."""
    labels = spec.labels if spec else {}
    return ContainerInfo(
        id="c1", name="c1", image="busybox", image_id="sha256:1", status=ContainerStatus.CREATED, labels=labels
    )


class Thin:
    """A backend with the core hooks and nothing else, that records what reaches it."""

    api_version = 1

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    @hookimpl
    def probe(self) -> Probe:
        return Probe(available=True)

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.INIT})

    @hookimpl
    def pull(self, image: str) -> ImageInfo:
        self.calls.append(("pull", image))
        return ImageInfo(id="sha256:1", references=(image,))

    @hookimpl
    def exists(self, image: str) -> bool:
        self.calls.append(("exists", image))
        return False

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        self.calls.append(("create", spec))
        return info(spec)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        self.calls.append(("start", container))
        return info()

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        self.calls.append(("stop", (container, grace)))
        return info()


def test_false_is_an_answer() -> None:
    """``exists`` answers False, which must not be taken for a missing answer."""
    assert build_runtime("thin", Thin()).exists("busybox") is False


def test_a_hook_that_returns_nothing_is_the_backends_fault() -> None:
    """With ``firstresult`` a None would otherwise look like a backend that is not there."""

    class Silent(Thin):
        @hookimpl
        def start(self, container: str) -> Any:
            return None

    with pytest.raises(PluginError, match="returned nothing from start"):
        build_runtime("silent", Silent()).start("c1")


@pytest.mark.parametrize("call", ["start", "stop", "inspect", "remove", "logs"])
def test_hostile_ids_never_reach_a_backend(call: str) -> None:
    """The guard stands in front of every hook that takes a container."""
    backend = Thin()
    with pytest.raises(InvalidValueError):
        getattr(build_runtime("thin", backend), call)("../volumes/x")

    assert [] == backend.calls


def test_missing_hooks_are_named() -> None:
    """The services refuse such a backend when they need it, and say what it lacks."""
    runtime = build_runtime("thin", Thin())

    assert SERVER_HOOKS - CORE_HOOKS == runtime.missing_hooks
    with pytest.raises(UnsupportedError, match="does not implement inspect"):
        runtime.inspect("c1")
    runtime.close()


@pytest.mark.parametrize("hook", sorted(OPTIONAL_HOOKS))
def test_optional_hooks_need_their_capability(hook: str) -> None:
    """What is not declared is not called."""
    runtime = build_runtime("thin", Thin())
    with pytest.raises(UnsupportedError) as caught:
        runtime._optional(hook)

    assert OPTIONAL_HOOKS[hook].value == caught.value.capability


def test_following_logs_needs_its_capability() -> None:
    """A backend that cannot follow would end the stream early or hang."""
    with pytest.raises(UnsupportedError):
        build_runtime("thin", Thin()).logs("c1", LogSpec(follow=True))


def test_what_was_left_out_stays_known() -> None:
    """``not_enforced`` is true for as long as the container exists, so it is kept in a label."""
    backend = Thin()
    spec = ContainerSpec(image="busybox", pids=5, init=True, preferred=frozenset({"pids", "init"}))
    made = build_runtime("thin", backend).create(spec)

    assert ("pids",) == made.not_enforced
    assert "pids" == made.labels["dev.oubliette.not-enforced"]


def test_wrappers_see_every_call_and_its_result() -> None:
    """Audit, metrics and fault injection stand around a backend without its knowledge."""
    seen: list[str] = []

    class Audit:
        api_version = 1

        @hookimpl(wrapper=True)
        def exists(self, image: str) -> Any:
            seen.append(f"before {image}")
            result = yield
            seen.append(f"after {result}")
            return not result

    runtime = build_runtime("thin", Thin(), [("audit", Audit())])

    assert runtime.exists("busybox") is True
    assert ["before busybox:latest", "after False"] == seen


def test_the_first_wrapper_is_the_outermost() -> None:
    """An audit log that is named first sees what the caller sees."""
    order: list[str] = []

    def wrapper(name: str) -> object:
        class Wrapper:
            api_version = 1

            @hookimpl(wrapper=True)
            def exists(self) -> Any:
                order.append(name)
                return (yield)

        return Wrapper()

    build_runtime("thin", Thin(), [("a", wrapper("a")), ("b", wrapper("b"))]).exists("busybox")

    assert ["a", "b"] == order


def test_a_wrapper_that_answers_is_refused() -> None:
    """It would be a second backend in one manager."""
    with pytest.raises(PluginLoadError, match="is not declared with hookimpl"):
        build_runtime("thin", Thin(), [("second", Thin())])


@pytest.mark.parametrize(
    ("name", "words"),
    [("colect", "unknown hook"), ("star", "did you mean start"), ("inspekt", "did you mean inspect")],
)
def test_a_misspelt_hook_fails_at_load(name: str, words: str) -> None:
    """A typo would otherwise be a hook that is silently never called."""

    def wrong(self: object) -> bool:
        return True

    backend = type("Wrong", (Thin,), {name: hookimpl(wrong)})
    with pytest.raises(PluginLoadError) as caught:
        build_runtime("wrong", backend())

    assert words in f"{caught.value} {caught.value.hint}"


def test_an_argument_that_is_not_in_the_contract_fails_at_load() -> None:
    """Argument names are the contract."""

    class Wrong(Thin):
        @hookimpl
        def exists(self, image: str, arch: str) -> bool:  # type: ignore[override]
            return False

    with pytest.raises(PluginLoadError, match="arch"):
        build_runtime("wrong", Wrong())


@pytest.mark.parametrize("hook", sorted(CORE_HOOKS))
def test_a_backend_without_a_core_hook_is_not_loaded(hook: str) -> None:
    """The error names the hook."""
    members = {name: value for name, value in vars(Thin).items() if name != hook and not name.startswith("__")}
    members["__init__"] = Thin.__init__
    with pytest.raises(PluginLoadError, match=f"does not implement {hook}"):
        build_runtime("partial", type("Partial", (), members)())


def test_every_hook_has_a_typed_method() -> None:
    """The face is complete: what a backend can do, a caller can ask for."""
    hooks = {name for name, value in vars(RuntimeSpec).items() if inspect.isfunction(value)}

    assert SERVER_HOOKS | set(OPTIONAL_HOOKS) == hooks
    assert hooks <= set(dir(Runtime))


@pytest.mark.parametrize("hook", sorted(SERVER_HOOKS | set(OPTIONAL_HOOKS)))
def test_every_hook_is_documented(hook: str) -> None:
    """A plugin author reads the page top to bottom; a hook without words is not on it."""
    function = getattr(RuntimeSpec, hook)
    doc = inspect.getdoc(function) or ""

    assert len(doc) > 40
    assert all(
        parameter.annotation is not inspect.Parameter.empty
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    )
