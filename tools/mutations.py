"""What can be changed in a module so that a test ought to notice: one small change at a time.

The changes are made on the syntax tree, and only where they have an effect at run time. Left alone
are annotations, docstrings, ``if TYPE_CHECKING:``, ``__slots__``, overloads, what stands in a
Protocol, and decorators that are for checkers only. A `Mutation` is found once, and carried out in
a process that is thrown away afterwards, so nothing is ever put back.

Each has a text that names it for people and for ``tests/mutants.md``: the function it is in, and
what became what. No line numbers, so that the name survives changes elsewhere in the file.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_FOR_CHECKERS = {"final", "overload", "runtime_checkable"}
_TYPING = {"cast", "TypeVar"}
_NOT_RUN = {"annotation", "returns", "type_params", "ctx", "keywords", "bases"}


@dataclass(frozen=True)
class Mutation:
    """One change: where it is, how it reads, and how to make it."""

    text: str
    line: int
    function: str | None
    """The outermost function that it changes the body of; None: what is done at import."""
    reached_by: frozenset[int] | None
    """The lines of which at least one must run for it to have an effect; None: not known."""
    apply: Callable[[], None] = field(compare=False)


@dataclass(frozen=True)
class _Place:
    """Where a node hangs in the tree."""

    parent: ast.AST
    name: str
    index: int | None = None

    def put(self, new: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.name, new)
        else:
            getattr(self.parent, self.name)[self.index] = new


class _Finder:
    """Walks the tree once, knowing in which function and in which statement it is."""

    def __init__(self) -> None:
        self.found: list[Mutation] = []
        self._names: list[str] = []
        self._lines: frozenset[int] | None = None
        self._in_function = False
        self._function: str | None = None
        self._seen: Counter[str] = Counter()

    def add(self, node: ast.AST, text: str, apply: Callable[[], None]) -> None:
        text = f"{'.'.join(self._names) or '(module)'}: {text}"
        self._seen[text] += 1
        if self._seen[text] > 1:
            text += f" (no. {self._seen[text]})"
        line = getattr(node, "lineno", 0)
        self.found.append(Mutation(text, line, self._function, self._lines, apply))

    def replace(self, place: _Place, old: ast.AST, new: ast.AST) -> None:
        ast.copy_location(new, old)
        ast.fix_missing_locations(new)
        self.add(old, f"{_shown(old)} → {_shown(new)}", lambda: place.put(new))

    def put_at(self, place: _Place, node: ast.AST, new: ast.AST, shown: str) -> None:
        """Add the mutation that puts `new`, which needs no place in the source, at `place`."""
        for part in ast.walk(new):
            ast.copy_location(part, node)
        self.add(node, shown, lambda: place.put(new))

    # -- walking --------------------------------------------------------------------------------

    def children(self, node: ast.AST, *names: str) -> None:
        for name, value in ast.iter_fields(node):
            if (names and name not in names) or (not names and name in _NOT_RUN):
                continue
            if isinstance(value, list):
                for index, child in enumerate(value):
                    if isinstance(child, ast.AST):
                        self.visit(_Place(node, name, index), child)
            elif isinstance(value, ast.AST):
                self.visit(_Place(node, name), value)

    def visit(self, place: _Place, node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.function(node)
        elif isinstance(node, ast.ClassDef):
            if not any(_name(base) == "Protocol" for base in node.bases):
                self.inside(node.name, node, "body")
        elif isinstance(node, ast.stmt):
            self.statement(place, node)
        elif isinstance(node, ast.ExceptHandler):
            self.handler(node)
        elif isinstance(node, ast.expr):
            self.expression(place, node)
        else:
            self.children(node)  # arguments, keywords, comprehensions, with items
            if isinstance(node, ast.comprehension):
                for index, test in enumerate(node.ifs):
                    self.negated(_Place(node, "ifs", index), test)

    def inside(self, name: str, node: ast.AST, *fields: str) -> None:
        self._names.append(name)
        self.children(node, *fields)
        self._names.pop()

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if "overload" in map(_name, node.decorator_list):
            return
        outer = self._lines, self._in_function
        if not self._in_function:  # what is done at import is seen where the function runs
            body = [line for stmt in node.body for line in _span(stmt)]
            self._lines = frozenset(body)
        self._names.append(node.name)
        for decorator in list(node.decorator_list):
            if _name(decorator) not in _FOR_CHECKERS:
                shown = f"@{ast.unparse(decorator)} removed"
                self.add(
                    decorator,
                    shown,
                    partial(node.decorator_list.remove, decorator),
                )
        self.children(node.args)
        if not self._in_function:
            self._in_function, self._function = True, ".".join(self._names)
            self.children(node, "body")
            self._function = None
        else:
            self.children(node, "body")
        self._names.pop()
        self._lines, self._in_function = outer

    def handler(self, node: ast.ExceptHandler) -> None:
        outer = self._lines
        self._lines = frozenset({node.lineno})
        if node.type is not None:
            nothing = ast.copy_location(ast.Tuple([], ast.Load()), node.type)
            self.add(
                node,
                f"except {ast.unparse(node.type)} → never",
                lambda: setattr(node, "type", nothing),
            )
        self._lines = outer
        self.children(node, "body")

    def statement(self, place: _Place, node: ast.stmt) -> None:
        if _is_docstring(node) or _is_for_checkers(node) or isinstance(node, _IMPORTS):
            return
        outer = self._lines
        if self._in_function:
            self._lines = frozenset(_header(node))
        self.change_statement(place, node)
        if isinstance(node, (ast.If, ast.While)):
            self.negated(_Place(node, "test"), node.test)
        self.children(node)
        self._lines = outer

    def change_statement(self, place: _Place, node: ast.stmt) -> None:
        if _is_removable(node) and not isinstance(place.parent, ast.Module):
            self.removed(place, node)
        if isinstance(node, ast.Assign):
            if self._in_function and not _is_stored(node) and not _is_none(node.value):
                self.replace(_Place(node, "value"), node.value, ast.Constant(None))
        elif isinstance(node, ast.Return):
            if node.value is not None and not _is_none(node.value):
                self.replace(place, node, ast.Return(ast.Constant(None)))
        elif isinstance(node, ast.Break):
            self.replace(place, node, ast.Continue())
        elif isinstance(node, ast.Continue):
            self.replace(place, node, ast.Break())
        elif isinstance(node, ast.With):
            self.unwrapped(node)
        elif isinstance(node, ast.AugAssign):
            self.operator(node, node.op)
        elif isinstance(node, ast.For):
            nothing = ast.Tuple([], ast.Load())
            shown = f"for {_shown(node.target)} in {_shown(node.iter)} → never"
            self.put_at(_Place(node, "iter"), node.iter, nothing, shown)
        elif isinstance(node, ast.Raise) and node.cause is not None:
            shown = f"{_shown(node)} → without its cause"
            self.add(node, shown, lambda: setattr(node, "cause", None))

    def removed(self, place: _Place, node: ast.stmt) -> None:
        gone = ast.copy_location(ast.Pass(), node)
        self.add(node, f"{_shown(node)} → removed", lambda: place.put(gone))

    def unwrapped(self, node: ast.With) -> None:
        for index, item in enumerate(node.items):
            if item.optional_vars is None:
                call = ast.parse("__import__('contextlib').nullcontext()", mode="eval").body
                shown = f"with {_shown(item.context_expr)} → without it"
                self.put_at(_Place(node, "items", index), node, ast.withitem(call), shown)

    def negated(self, place: _Place, test: ast.expr) -> None:
        if isinstance(test, (ast.Compare, ast.BoolOp)) and not _is_chain(test):
            return  # its operators are changed instead
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return  # likewise
        new = ast.UnaryOp(ast.Not(), test)
        ast.copy_location(new, test)
        self.add(test, f"if {_shown(test)} → if not", lambda: place.put(new))

    def operator(self, node: ast.BinOp | ast.AugAssign, op: ast.operator) -> None:
        if type(op) in _OPERATORS:
            other = _OPERATORS[type(op)]()
            shown = f"{ast.unparse(node)} with {_SIGNS[type(op)]} → {_SIGNS[type(other)]}"
            self.add(node, shown, lambda: setattr(node, "op", other))

    def expression(self, place: _Place, node: ast.expr) -> None:
        if isinstance(node, ast.Compare):
            self.comparison(node)
        elif isinstance(node, ast.BinOp):
            self.operator(node, node.op)
        elif isinstance(node, ast.IfExp):
            self.negated(_Place(node, "test"), node.test)
        elif isinstance(node, ast.Call):
            self.call(node)
        else:
            self.simple_expression(place, node)
        if isinstance(node, ast.FormattedValue):
            self.children(node, "value")  # the format itself is text for the reader
        elif isinstance(node, ast.Call):
            if _name(node.func) not in _TYPING:
                self.children(node, "func", "args", "keywords")
            for index, arg in enumerate(node.args[1:], 1):
                if _name(node.func) in _TYPING:
                    self.visit(_Place(node, "args", index), arg)
        else:
            self.children(node)

    def simple_expression(self, place: _Place, node: ast.expr) -> None:
        if isinstance(node, ast.BoolOp):
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            self.replace(place, node, ast.BoolOp(other, node.values))
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Invert):
            self.replace(place, node, node.operand)
        elif isinstance(node, ast.Constant):
            for new in _other_constants(node.value):
                self.replace(place, node, ast.Constant(new))
        elif isinstance(node, ast.Lambda) and not _is_none(node.body):
            self.replace(_Place(node, "body"), node.body, ast.Constant(None))
        elif isinstance(node, ast.Dict):
            self.dictionary(node)
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)) and not self._in_function:
            for item in node.elts:
                shown = f"{_shown(node)} without {_shown(item)}"
                self.add(item, shown, partial(node.elts.remove, item))

    def dictionary(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            shown = f"**{_shown(value)}" if key is None else f"{_shown(key)}: {_shown(value)}"

            def remove(value: ast.expr = value) -> None:
                index = node.values.index(value)
                del node.keys[index], node.values[index]

            self.add(value, f"{_shown(node)} without {shown}", remove)

    def comparison(self, node: ast.Compare) -> None:
        for index, op in enumerate(node.ops):
            for other in _COMPARISONS[type(op)]:
                shown = f"{_shown(node)} with {_SIGNS[type(op)]} → {_SIGNS[other]}"
                self.put_at(_Place(node, "ops", index), node, other(), shown)

    def call(self, node: ast.Call) -> None:
        if _name(node.func) in _TYPING:
            return
        for index, arg in enumerate(node.args):
            if not _is_none(arg) and not isinstance(arg, ast.Starred):
                shown = f"{_shown(node)} with {_shown(arg)} → None"
                self.put_at(_Place(node, "args", index), node, ast.Constant(None), shown)
        for keyword in node.keywords:
            if keyword.arg is not None:
                shown = f"{_shown(node)} without {keyword.arg}"
                self.add(node, shown, partial(node.keywords.remove, keyword))


_IMPORTS = (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)
_SIGNS: dict[type[ast.AST], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitOr: "|",
    ast.BitAnd: "&",
}


def mutations(source: str) -> tuple[ast.Module, list[Mutation]]:
    """Return the tree of `source` and the changes that can be made in it."""
    tree = ast.parse(source)
    finder = _Finder()
    finder.children(tree)
    return tree, finder.found


def _other_constants(value: object) -> Iterator[bool | float | str]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
    elif isinstance(value, str):
        yield f"XX{value}XX"


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else text[:60] + " ... " + text[-25:]


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _name(node.func)
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_chain(node: ast.expr) -> bool:
    return isinstance(node, ast.Compare) and len(node.ops) > 1


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_checkers(node: ast.stmt) -> bool:
    if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign):
        if isinstance(node.value, ast.Subscript) and not node.col_offset:
            return True  # another name for a type
        return any(_name(target) in {"__slots__", "__all__"} for target in node.targets)
    return isinstance(node, ast.AnnAssign) and node.value is None


def _is_removable(node: ast.stmt) -> bool:
    kinds = (ast.AugAssign, ast.Delete, ast.Raise, ast.Assert)
    is_bare_return = isinstance(node, ast.Return) and node.value is None
    return isinstance(node, kinds) or is_bare_return or _is_effect(node) or _is_stored(node)


def _is_effect(node: ast.stmt) -> bool:
    """Whether it is a call, awaited or not, whose value nobody takes."""
    return isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await))


def _is_stored(node: ast.stmt) -> bool:
    """Whether it sets an attribute or an item, and so can be missing without a NameError."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)


def _span(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _header(node: ast.stmt) -> range:
    """The lines of a statement without those of the statements in it."""
    body: list[ast.stmt] = getattr(node, "body", [])
    return range(node.lineno, max(body[0].lineno, node.lineno + 1)) if body else _span(node)
