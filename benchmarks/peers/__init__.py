"""The same questions, asked of others: one file for each, run in an environment of its own."""
