"""Directives for the pages about programs: what an agent file may have, and what a command takes.

All of it is made when the site is built: the tables from the schema of agent files, which is made
from the classes that read them, and the help from the command line itself.
"""

import contextlib
import io
import json
import os
import re
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from trioworker._cli import _app as command_line
from trioworker.agent import file_schema
from trioworker.agent._schema import FROM_ENVIRONMENT


class Keys(SphinxDirective):
    """The keys of a table in an agent file, from the schema: ``engine``, ``manifold``, a class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return one table."""
        schema = file_schema()
        engine, manifolds = schema["properties"].values()
        tables = {"engine": engine, "manifold": manifolds["additionalProperties"]}
        found = tables.get(self.arguments[0]) or schema["definitions"][self.arguments[0]]
        return self.parse_text_to_nodes(key_table(found), allow_section_headings=False)


class Commands(SphinxDirective):
    """What each command of the command line prints for ``--help``."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command, in the order of the alphabet."""
        names = [name for name in command_line.app if not name.startswith("-")]
        return [self.section(name) for name in sorted(names)]

    def section(self, command: str) -> nodes.section:
        """Return the section of one command."""
        os.environ["COLUMNS"] = "100"  # the lines are as wide in every terminal
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            command_line.main([command, "--help"])
        text = "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())
        section = nodes.section(ids=[nodes.make_id(f"help {command}")])
        section += nodes.title("", "", nodes.literal("", command))
        section += nodes.literal_block(text, text, language="text")
        return section


class Configs(SphinxDirective):
    """What the config of each ready-made worker may have, from the schema."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each factory, in which classes that its config has come after it."""
        schema = file_schema()
        manifold = schema["properties"]["manifolds"]["additionalProperties"]
        configs = {
            rule["if"]["properties"]["use"]["const"]: rule["then"]["properties"]["config"]
            for rule in manifold["allOf"]
        }
        return [self.section(use, config, schema["definitions"]) for use, config in configs.items()]

    def section(self, use: str, config: Any, definitions: dict[str, Any]) -> nodes.section:
        """Return the section of one factory."""
        title = use.removeprefix("trioworker.workers.").removesuffix(":manifold")
        module, _, name = use.partition(":")
        lines = [f'``use = "{use}"``: :func:`{module}.{name}`.', ""]
        if config is False:
            lines.append("It takes no config.")
        else:
            for number, class_ in enumerate(within(config, definitions)):
                lines += [] if number == 0 else [f"``{class_.rpartition('.')[2]}``:", ""]
                lines += [key_table(definitions[class_]), ""]
        section = nodes.section(ids=[nodes.make_id(f"config {title}")])
        section += nodes.title("", "", nodes.literal("", title))
        section += self.parse_text_to_nodes("\n".join(lines), allow_section_headings=False)
        return section


def within(schema: Any, definitions: dict[str, Any]) -> list[str]:
    """Return the names of the classes in a schema, those in them included, outermost first."""
    found = re.findall(r"'#/definitions/([^']*)'", str(schema))
    inner = [name for one in found for name in within(definitions[one], definitions)]
    return list(dict.fromkeys([*found, *inner]))


def key_table(table: dict[str, Any]) -> str:
    """Return a table of the keys of a table in an agent file, as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    lines += ["   * - key", "     - type", "     - default", "     - what it is"]
    for key, found in table["properties"].items():
        value = "required" if key in table["required"] else default(found)
        type_ = "string" if key == "use" else kind(found)  # not all the workers that there are
        cells = [type_, value, found["description"]]
        lines += [f"   * - ``{key}``", *(f"     - {cell}" for cell in cells)]
    return "\n".join(lines)


def default(schema: dict[str, Any]) -> str:
    """Say what holds where a file has not the key."""
    return f"``{json.dumps(schema['default'])}``" if "default" in schema else ""


def kind(schema: dict[str, Any]) -> str:
    """Say in words what a schema takes."""
    if "anyOf" in schema:
        # What may come from the environment is told once, for all.
        told = [member for member in schema["anyOf"] if member != FROM_ENVIRONMENT]
        return " or ".join(dict.fromkeys(map(kind, told)))
    if "enum" in schema:
        return " or ".join(f"``{json.dumps(value)}``" for value in schema["enum"])
    if "allOf" in schema:
        return f"table: ``{schema['allOf'][0]['$ref'].rpartition('.')[2]}``"
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "array":
            return f"array of {kind(schema['items'])}"
        case "object":
            values = schema["additionalProperties"]
            return f"table of {kind(values)}" if values else "table"
        case found:
            return found or "anything"
