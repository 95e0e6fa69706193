"""Ready-made workers, one module each, in wings: `trioworker.workers.agent` for the program itself.

They are users of the framework like any other: what they import of it is public.
"""
