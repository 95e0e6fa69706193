"""The names of an engine and who needs whom: adding, removing, refusing.

Every name that is installed or that somebody installed declares has a `Node`; edges are direct
references between nodes, in both directions. Nothing here moves a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import AlreadyExists, CycleError, NotFound, UnknownInput
from ._graph import find_cycle
from ._manifold import Manifold
from ._node import Node
from ._states import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


_MANY = 200
"""Above so many names a guess would hold up the program for longer than it helps anybody."""


class Registry:
    """All nodes of one engine, by name."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._nodes: dict[str, Node] = {}

    def installed(self, name: str) -> Node:
        """Return the node of an installed manifold.

        Raises:
            NotFound: nothing is installed under that name.
        """
        node = self._nodes.get(name)
        if node is None or node.state is State.ABSENT:
            msg = f'no manifold "{name}" is installed in "{self._engine}"{self._near(name)}'
            raise NotFound(msg)
        return node

    def is_installed(self, name: str) -> bool:
        """Whether something is installed under `name`."""
        node = self._nodes.get(name)
        return node is not None and node.state is not State.ABSENT

    def known(self, name: str) -> Node:
        """Return the node of a manifold that is installed or that somebody declares.

        Raises:
            NotFound: it is neither.
        """
        return self._nodes.get(name) or self.installed(name)

    def all_installed(self) -> list[Node]:
        """Return the nodes of all that is installed, oldest first."""
        return [node for node in self._nodes.values() if node.state is not State.ABSENT]

    def check(self, manifolds: Mapping[str, object], later: Collection[str] | None) -> None:
        """Raise unless all of `manifolds` can be added now; changes nothing.

        Args:
            manifolds: by name.
            later: required inputs that may be unknown; ``None`` for any.
        """
        if not hasattr(manifolds, "items"):
            msg = f"install_all() takes a mapping from names to manifolds, not {manifolds!r}"
            raise TypeError(msg)
        accepted = {name: self._checked(name, value) for name, value in manifolds.items()}
        if later is not None:
            self._check_known(accepted, later)
        # A cycle goes through something new that needs something, and that somebody needs.
        suspects = [name for name, m in accepted.items() if m.inputs or m.optional]
        if len(accepted) > 1 or any(n in self._nodes or n in _needs(accepted[n]) for n in suspects):
            self._check_cycles(accepted, suspects)

    def add(self, name: str, manifold: Manifold) -> Node:
        """Add what was checked; return its node, whose state the caller moves."""
        node = self._node(name)
        node.manifold = manifold
        if manifold.inputs:
            self._link(node, "required", manifold.bound(manifold.inputs))
        if manifold.optional:
            self._link(node, "optional", manifold.bound(manifold.optional))
        if manifold.live:
            self._link(node, "live", manifold.bound(manifold.live))
        return node

    def _link(self, node: Node, field: str, names: Iterable[str]) -> None:
        inputs = tuple(map(self._node, names))
        if field == "optional":
            inputs = tuple(other for other in inputs if other not in node.required)
        elif field == "required":
            node.unready = sum(other.state is not State.STARTED for other in inputs)
        setattr(node, field, inputs)
        for other in inputs:
            edges: dict[Node, None] | None = getattr(other, f"{field}_by")
            if edges is None:
                setattr(other, f"{field}_by", {node: None})
            else:
                edges[node] = None

    def remove(self, node: Node, farewell: str) -> None:
        """Forget the manifold of `node`, which has no run; keep a name that somebody needs."""
        inputs = {*node.required, *node.optional, *node.live}
        for other in inputs:
            for edges in (other.required_by, other.optional_by, other.live_by):
                if edges is not None:
                    edges.pop(node, None)
        node.clear()
        node.farewell = farewell
        for other in (node, *inputs):
            if other.state is State.ABSENT and not any(other.readers()):
                self._nodes.pop(other.name, None)

    def __len__(self) -> int:
        return len(self._nodes)

    def _node(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(name)
        return node

    def _checked(self, name: object, manifold: object) -> Manifold:
        if not isinstance(name, str) or not name:
            msg = f'"{self._engine}": a manifold needs a name, a string, not {name!r}'
            raise TypeError(msg)
        if not isinstance(manifold, Manifold):
            msg = (
                f'"{name}": expected a Manifold, got {manifold!r}; '
                f'write install("{name}", Manifold(start_function))'
            )
            raise TypeError(msg)
        node = self._nodes.get(name)
        if node is not None and node.state is not State.ABSENT:
            msg = (
                f'"{name}" is installed already ({node.state}); a name stays taken until its run '
                f'has ended: uninstall("{name}"), then await wait_state("{name}", "absent")'
            )
            raise AlreadyExists(msg)
        return manifold

    def _check_known(self, manifolds: Mapping[str, Manifold], later: Collection[str]) -> None:
        unknown = [
            f'"{name}" needs "{needed}"{self._near(needed, manifolds)}'
            for name, manifold in manifolds.items()
            if manifold.inputs
            for needed in manifold.bound(manifold.inputs)
            if needed not in manifolds and needed not in later and not self.is_installed(needed)
        ]
        if unknown:
            msg = (
                f"inputs that nothing provides: {'; '.join(unknown)}. "
                "Install them with the others, or say that they come later: later={...}"
            )
            raise UnknownInput(msg)

    def _check_cycles(self, manifolds: Mapping[str, Manifold], starts: Iterable[str]) -> None:
        def inputs(name: str) -> Iterable[str]:
            manifold = manifolds.get(name)
            if manifold is not None:
                return _needs(manifold)
            node = self._nodes.get(name)
            return () if node is None else [other.name for other in node.inputs()]

        cycle = find_cycle(starts, inputs)
        if cycle is not None:
            path = " -> ".join(cycle)
            msg = f"these would wait for each other for ever: {path}. Make one of the inputs live."
            raise CycleError(msg, tuple(cycle))

    def _near(self, name: str, more: Iterable[str] = ()) -> str:
        import difflib  # noqa: PLC0415 - 3 ms, for a message that is rarely needed

        names = [node.name for node in self.all_installed()]
        if len(names) > _MANY:
            return ""
        close = difflib.get_close_matches(name, [*names, *more])
        if not close:
            return ""
        guesses = " or ".join(f'"{other}"' for other in close)
        return f" (did you mean {guesses}?)"


def _needs(manifold: Manifold) -> tuple[str, ...]:
    return (*manifold.bound(manifold.inputs), *manifold.bound(manifold.optional))
