"""The library: methods, corpora, metrics, training, decoding. Knows no run folder, no DVC, no published figure.

Importing this package imports nothing heavy: modules that need torch import it themselves.
"""
