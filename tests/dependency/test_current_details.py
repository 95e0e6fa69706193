"""What a context shows of the manifold on whose behalf it is."""

import contextvars

from .harness import Life, Program, serve


async def test_who_lists_the_variables_of_a_context_reads_whose_the_manifold_is() -> None:
    shown: dict[str, object] = {}

    async def body(life: Life) -> None:
        shown.update({var.name: value for var, value in contextvars.copy_context().items()})
        await serve(life)

    program = Program()
    program.install("db", body=body)
    async with program.running():
        assert shown["trioworker manifold"] == "db"
