"""Leases under faults: real processes race for one lease, and a checker reads what they recorded.

- `claimant`: the program that races. It runs the real store, the real manager, and a real
  `singular` with a job, or a loop of claims through the public faces; it records what it did.
- `resource`: what they write to. It refuses tokens smaller than the greatest it has seen.
- `proxy`: links that can be cut, delayed and halved.
- `stores`: what they race on, a row for each shared store, with the faults of its own.
- `race`: starts six claimants, and breaks one thing after another.
- `history`: what was recorded, and whether it is as leases promise. Pure.

All times are of ``CLOCK_MONOTONIC``, which is one clock for all processes of a machine.
"""
