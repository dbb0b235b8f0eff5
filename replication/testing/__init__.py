"""Test helpers, also for users who add a method: checks that every method must pass, tiny models, a toy problem."""
