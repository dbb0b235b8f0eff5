"""Not imported by library or pipelines: the embedded corpus, faults of the authors' code, the recount."""
