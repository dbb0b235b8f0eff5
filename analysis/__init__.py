"""Records and published figures in; tables, figures, statistics, verdicts and the report page out.

Nothing here imports torch or transformers: a report builds on any machine that holds the run folders.
"""
