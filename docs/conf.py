"""How the documentation is built: `make docs`, nitpicky and with warnings as errors.

The build uses no network. So there is no intersphinx: a reference into another project cannot be
resolved here, and is let through by name below instead.
"""

import importlib.util
import pkgutil
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer

import trioworker

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
exclude_patterns = ["examples"]  # whole programs, which pages include

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

nitpick_ignore_regex = [
    # Other people's objects.
    (r"py:.*", r"(attr|attrs|cattrs|collections|contextlib|enum|outcome|pathlib|trio|types)\..*"),
    (r"py:.*", r"typing\..*"),
    # Type variables have no page of their own.
    (r"py:class", r"(.+\.)?(T|P|[A-Z]\w*T|T_\w+)"),
]


def merge_sources(package: str) -> None:
    """Let autodoc find a public object's source where it is, in a private module of the package.

    Public objects say that they live in the package. So autodoc looks into its `__init__.py` for
    the order of members and for the docstrings under attributes, and would find neither.
    """
    module = import_module(package)
    public = ModuleAnalyzer.for_module(package)
    public.analyze()
    for info in pkgutil.iter_modules(module.__path__, f"{package}."):
        if not info.name.rpartition(".")[2].startswith("__"):
            private = ModuleAnalyzer.for_module(info.name)
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


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    for package in ["trioworker", "trioworker.dependency", "trioworker.testing"]:
        found = importlib.util.find_spec(package)
        if found and found.origin:  # which a folder without an __init__.py has not
            merge_sources(package)
    app.connect("missing-reference", resolve_private)
