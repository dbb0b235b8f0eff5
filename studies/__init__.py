"""What neither the library nor the pipelines import: the embedded corpus, faults of the authors' code, the recount."""
