"""Workers by which parts of a program, or programs, agree on who may do what, and when.

One module each, with what it offers as Protocols and a ``manifold()`` for agent files. They are
told in the documentation, under "Coordination".
"""
