"""What several stages use: checked settings, the resolved `Experiment`, paths, fitting, records."""
