"""The decision rule and the claims of both papers, judged from the runs of one profile."""
