"""Parts of groups whose own class gets in the way: it is what was in them that counts."""

from typing import Any

from trioworker._groups import only


class Forgetful(ExceptionGroup[Exception]):
    """Can be divided, but its author forgot to return the part."""

    def derive(self, excs: Any, /) -> Any:
        pass


class Frozen(ExceptionGroup[Exception]):
    """Refuses to have any of its attributes set, and derives its like."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def derive(self, excs: Any, /) -> Any:
        return Frozen(self.message, excs)


def test_a_group_that_derives_nothing_is_divided_into_plain_groups() -> None:
    error, why = ValueError(), OSError()
    group = Forgetful("both", [error, KeyError()])
    group.__cause__ = why
    group.add_note("kept")

    part = only(group, lambda exc: exc is error)

    assert type(part) is ExceptionGroup
    assert (part.message, part.exceptions, part.__cause__) == ("both", (error,), why)
    assert part.__notes__ == ["kept"]


def test_a_part_of_a_group_whose_class_is_frozen_keeps_all_but_the_notes() -> None:
    error, context = ValueError(), OSError()
    group = Frozen("both", [error, KeyError()])
    object.__setattr__(group, "__context__", context)
    object.__setattr__(group, "__notes__", ["refused"])

    part = only(group, lambda exc: exc is error)

    assert isinstance(part, Frozen)
    assert part.exceptions == (error,)
    assert part.__context__ is context
    assert not hasattr(part, "__notes__")
