"""Pure statistics over arrays: resampled test items, spread over seeds, power. No files, no plotting."""
