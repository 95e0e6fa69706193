"""How the documentation is built: `make docs`, nitpicky and with warnings as errors.

The build uses no network. So there is no intersphinx: a reference into another project cannot be
resolved here, and is let through by name below instead.
"""

import ast
import importlib.util
import inspect
import pkgutil
import re
import runpy
import sys
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import trioworker

sys.path.insert(0, str(Path(__file__).parent / "_scripts"))

from programs import Commands, Configs, Keys

project = "trioworker"
author = "The trioworker developers"
project_copyright = author
version = release = trioworker.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
    "sphinx_copybutton",
]
exclude_patterns = ["examples", "_scripts", "benchmarks"]  # what pages include

default_role = "literal"  # `name` in a docstring is code, as it is in Markdown

html_theme = "furo"
html_title = f"trioworker {release}"

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

# sphinxcontrib-trio, which shows what is awaited and what is entered, hooks into these classes.
autodoc_use_legacy_class_based = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"

# A prompt is shown, but not copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

OTHERS = ["apsw", "attr", "attrs", "cattrs", "h11", "outcome", "psycopg", "trio"]
nitpick_ignore_regex = [
    # Other people's objects.
    (r"py:.*", rf"({'|'.join([*OTHERS, *sys.stdlib_module_names])})\..*"),
    # Type variables have no page of their own.
    (r"py:class", r"(.+\.)?(T|P|W|Args|[A-Z]\w*T|T_\w+)"),
    # Only imported for the type checkers, so all that is left of them is the last part of the name.
    (r"py:class", r"(AbstractContextManager|AsyncIterator|Awaitable|Callable|Path|TracebackType)"),
    # Aliases and bundles of keyword arguments, told of where they are used: `Manifold`, `Runner`,
    # what a database takes and gives.
    (r"py:class", r"(.+\.)?(StartFunction|Start|Options|Value|Row)"),
    # What an `EventStream` is made of; only an engine makes one.
    (r"py:class", r"Observers"),
]

# The modules whose public names the reference has: all whose name has no underscore and that say
# what is public.
PACKAGES = [
    "trioworker",
    *(
        found.name
        for found in pkgutil.walk_packages(trioworker.__path__, "trioworker.")
        if "._" not in found.name and hasattr(import_module(found.name), "__all__")
    ),
]


@cache
def origins(package: str) -> dict[str, str]:
    """Return the public names of `package`, and the module that each comes from.

    Read off its imports, because public objects say that they live in the package. What is not
    imported from a module of ours is made in `package` itself.
    """
    module = import_module(package)
    tree = ast.parse(inspect.getsource(module))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                name = alias.asname or alias.name
                if name in module.__all__ and not inspect.ismodule(getattr(module, name)):
                    inner = origins(source) if source in PACKAGES else {}
                    found[name] = inner.get(alias.name, source)
    own = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    return found | dict.fromkeys(set(own) - set(found), package)


class Public(SphinxDirective):
    """Everything public that comes from the private modules listed, in the order of its export.

    ``name.*`` stands for all modules of a package.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the documentation of it all; a name that several packages export comes once."""
        lines: list[str] = []
        wanted = [f"trioworker.{name}" for line in self.content for name in line.split()]
        documented: set[int] = set()
        for module in wanted:
            for package in PACKAGES:
                for name, source in origins(package).items():
                    thing = getattr(import_module(package), name)
                    if fnmatchcase(source, module) and id(thing) not in documented:
                        documented.add(id(thing))
                        lines += described(f"{package}.{name}", thing)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=False)


class Modules(SphinxDirective):
    """Each public module of the package that is named: its docstring, and all that it exports."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each module; it is where the cross-references to it lead."""
        above = self.arguments[0]
        return [
            self.section(package, package.removeprefix(f"{above}."))
            for package in PACKAGES
            if package.startswith(f"{above}.")
        ]

    def section(self, package: str, title: str) -> nodes.section:
        """Return the section of one module, whose names come in the order of its source."""
        lines = [f".. automodule:: {package}", "   :no-index:", "", f".. module:: {package}", ""]
        analyzer = ModuleAnalyzer.for_module(package)
        analyzer.analyze()
        names = origins(package)
        for name in sorted(names, key=lambda name: analyzer.tagorder.get(name, 0)):
            lines += described(f"{package}.{name}", getattr(import_module(package), name))
        section = nodes.section(ids=[nodes.make_id(title)])
        section += nodes.title("", "", nodes.literal("", title))
        section += self.parse_text_to_nodes("\n".join(lines), allow_section_headings=False)
        return section


class Exceptions(SphinxDirective):
    """A list of what the packages that are named can raise, each with the first of its words."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the list, in the order of the modules."""
        packages = tuple(self.arguments[0].split())
        lines = [
            f"- :class:`{package}.{name}`: {inspect.getdoc(thing).split(chr(10) * 2)[0]}"
            for package in PACKAGES
            if package.startswith(packages)
            for name, thing in vars(import_module(package)).items()
            if inspect.isclass(thing) and issubclass(thing, BaseException)
            if thing.__module__ == package and not name.startswith("_")
        ]
        text = "\n".join(line.replace("\n", " ") for line in lines)
        return self.parse_text_to_nodes(text, allow_section_headings=False)


def described(name: str, thing: object) -> list[str]:
    """Return what makes autodoc describe `thing`."""
    if not inspect.isclass(thing):
        return [f".. {'autofunction' if inspect.isroutine(thing) else 'autodata'}:: {name}", ""]
    if not issubclass(thing, BaseException):
        # A field whose name says it all is a field: it comes without a text.
        bare = ["   :undoc-members:"] if fields(thing) else []
        made = "()" if is_ours_to_make(thing) else ""
        return [f".. autoclass:: {name}{made}", "   :members:", *bare, ""]
    # By their bases users know what to catch; a base of our own that is private is of no use.
    public = all("._" not in base.__module__ for base in thing.__bases__)
    bases = ["   :show-inheritance:"] if public else []
    return [f".. autoexception:: {name}", "   :members:", *bases, ""]


def is_ours_to_make(thing: type) -> bool:
    """Whether users make none: a Protocol; or it says so, or a parameter's type is private."""
    if getattr(thing, "_is_protocol", False):
        return True
    types = getattr(thing.__init__, "__annotations__", {}).values()
    is_said = re.search(r"\b(makes it|made by)\b", thing.__doc__ or "")
    return bool(is_said) or any(str(type_).startswith("_") for type_ in types)


def merge_sources(package: str) -> None:
    """Let autodoc find a public object's source where it is, in a private module.

    Public objects say that they live in the package. So autodoc looks into its `__init__.py` for
    the order of members and for the docstrings under attributes, and would find neither.
    """
    public = ModuleAnalyzer.for_module(package)
    public.analyze()
    # By origin: what this package exports may come from a module of a package below it.
    for source in dict.fromkeys(origins(package).values()):
        private = ModuleAnalyzer.for_module(source)
        private.analyze()
        public.attr_docs.update(private.attr_docs)
        public.tagorder.update(private.tagorder)


def resolve_private(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Link `trioworker._tomb.Tomb`, which an annotation may still say, to `trioworker.Tomb`."""
    parts = node.get("reftarget", "").split(".")
    public = ".".join(part for part in parts if not part.startswith("_"))
    if parts[0] != "trioworker" or len(public.split(".")) == len(parts):
        return None
    python: Any = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, content)


def forget_parameters(app: Sphinx, what: str, name: str, thing: Any, *_: Any) -> None:
    """Keep the types of parameters away where the parameters are."""
    if what == "class" and is_ours_to_make(thing):
        app.env.current_document.autodoc_annotations.pop(name, None)


def keep_whole(app: Sphinx, what: str, *others: Any) -> None:  # noqa: ARG001 - Sphinx calls it
    """Keep napoleon from reading "text: more text" under an attribute as "type: description".

    It looks at the first line only, so that becomes one which reStructuredText shows as nothing.
    """
    lines: list[str] = others[-1]
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()  # Python's word for a field of a named tuple whose name says it all
    if what in {"attribute", "property", "data"} and lines:
        lines.insert(0, "\\ ")


def check_complete(app: Sphinx, env: BuildEnvironment) -> None:  # noqa: ARG001 - Sphinx calls it
    """Refuse a reference that lacks a public name, or a field of one."""
    python: Any = env.get_domain("py")
    for package in PACKAGES:
        module = import_module(package)
        for name, source in origins(package).items():
            thing = getattr(module, name)
            home = getattr(thing, "__module__", package)
            for full in (name, *(f"{name}.{field}" for field in fields(thing))):
                if not {f"{home}.{full}", f"{package}.{full}"} & python.objects.keys():
                    logging.getLogger(__name__).warning(
                        "docs/reference lacks %s.%s, from %s", package, full, source
                    )


def fields(thing: Any) -> list[str]:
    """Return the public fields of a named tuple or an attrs class."""
    names = getattr(thing, "_fields", None) or [
        field.name for field in getattr(thing, "__attrs_attrs__", ())
    ]
    return [name for name in names if not name.startswith("_")]


def read_again(*_: object) -> list[str]:
    """Return the pages that are made from more than the modules that Sphinx knows of."""
    return ["reference/workers", "reference/backends", "agent-files", "cli", "errors"]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    # The picture of the states, and the page around it, from the engine's table.
    runpy.run_path(str(Path(__file__).parent / "_scripts" / "draw_states.py"), run_name="__main__")
    for package in PACKAGES:
        merge_sources(package)
    app.add_directive("public", Public)
    app.add_directive("modules", Modules)
    app.add_directive("keys", Keys)
    app.add_directive("commands", Commands)
    app.add_directive("exceptions", Exceptions)
    app.add_directive("configs", Configs)
    app.connect("env-get-outdated", read_again)
    app.connect("autodoc-process-docstring", forget_parameters)
    app.connect("autodoc-process-docstring", keep_whole, priority=400)  # before napoleon
    app.connect("missing-reference", resolve_private)
    app.connect("env-check-consistency", check_complete)
