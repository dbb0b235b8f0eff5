"""Corpora, one family per file; each is read whole and checked, or not at all."""
