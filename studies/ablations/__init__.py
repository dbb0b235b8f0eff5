"""Faults seen in the authors' code, as experiments (`make ablations`). No stages, no methods of the library.

One file per fault: the faulty variant is next to its measurement, never in replication/methods. Each is run on the
quick profile's small models and embedded corpora, or computed from the authors' own files, and writes
measurements/ablations/<name>.json (analysis/show/ablations.py is its schema, its table and its figure).
"""
