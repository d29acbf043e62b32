"""The manifest and the cases are the same list: no behaviour without a case, no case without a behaviour."""

import inspect
from collections import Counter

from oubliette_core.models import Capability
from oubliette_core.testing.kit.manifest import Behaviour, behaviour_of, behaviours
from oubliette_core.testing.suite import RuntimeConformance

FEWEST = 120


def _cases() -> list[str]:
    """Name the tests of all classes of the kit, with repetitions."""
    return [
        name for base in RuntimeConformance.__mro__ for name in vars(base) if name.startswith("test_")
    ]  # fmt: skip


def test_every_behaviour_has_one_case_and_every_case_a_behaviour() -> None:
    """A promise that nothing tests is a wish; a test that promises nothing is noise."""
    promised = Counter(behaviour.test_name for behaviour in behaviours())

    assert promised == Counter(_cases())
    assert {1} == set(promised.values())
    assert len(promised) >= FEWEST


def test_every_case_is_a_function_that_a_subclass_inherits() -> None:
    """What a runtime's author inherits is what the kit runs."""
    functions = [name for name, _ in inspect.getmembers(RuntimeConformance, inspect.isfunction)]

    assert {behaviour.test_name for behaviour in behaviours()} <= set(functions)


def test_every_behaviour_is_one_sentence_with_a_source() -> None:
    """The sentences become a table of the documentation."""
    wrong = [one.id for one in behaviours() if not one.sentence.endswith(".") or "\n" in one.sentence]

    assert [] == wrong
    assert [] == [one.id for one in behaviours() if not one.source]


def test_every_capability_gates_a_case() -> None:
    """A capability that no case looks at could be declared by anybody."""
    gates = frozenset[Capability]().union(*(one.needs for one in behaviours()))

    assert set(Capability) == gates


def test_the_gate_looks_at_declared_capabilities_only() -> None:
    """The reason names what is missing, or what is there."""
    behaviour = Behaviour(
        id="some.case",
        sentence="It is so.",
        source="here",
        needs=frozenset({Capability.TTY, Capability.USER}),
        unless=frozenset({Capability.VM_ISOLATION}),
    )
    declared = frozenset({Capability.TTY, Capability.USER})

    assert "" == behaviour.gate(declared)
    assert "the runtime does not declare user" == behaviour.gate(frozenset({Capability.TTY}))
    assert "the runtime declares vm-isolation" == behaviour.gate(declared | {Capability.VM_ISOLATION})


def test_a_case_is_found_by_the_name_of_its_test() -> None:
    """The name of a test is its id with other separators."""
    found = behaviour_of("test_exec_deadline_kills_tree")

    assert found is not None
    assert "exec.deadline.kills-tree" == found.id
    assert behaviour_of("test_something_else") is None
