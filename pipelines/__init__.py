"""What DVC runs, one stage a file: each reads parameters, calls the library, writes files. Nothing imports this."""
