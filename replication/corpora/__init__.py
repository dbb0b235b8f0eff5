"""Corpora, one family a file; each is read whole and checked, or not at all."""
