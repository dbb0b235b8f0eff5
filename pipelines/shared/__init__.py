"""Shared by stages: checked settings, the resolved `Experiment`, paths, fitting, records."""
