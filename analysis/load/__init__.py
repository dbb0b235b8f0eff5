"""Run folders and published figures in; small typed records and one tidy frame out."""
