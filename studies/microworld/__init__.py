"""The generator of the embedded synthetic corpus; `replication.corpora.microworld` reads what it wrote.

The README.md files of the corpus name the generator's first address, `replication.corpora`: their bytes are versioned
with the data (`data.dvc`), so they stay.
"""
