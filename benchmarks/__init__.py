"""Speed and memory, contender beside contender: `make bench`, `make bench-check`."""
