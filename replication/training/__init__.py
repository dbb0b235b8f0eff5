"""Training and decoding: the loop, its settings, callbacks, losses, checkpoints, and generation."""
