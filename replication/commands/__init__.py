"""The commands of `replicate`, one a file; each adds itself through an entry point."""
