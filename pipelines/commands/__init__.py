"""Commands that look at a profile or run it; no stage imports them."""
