"""The DVC stages, one a file: each reads parameters, calls the library, writes files. Nothing imports this."""
