"""Every life that Hypothesis can think of, each compared step by step with a model of it."""
