"""One source a row: every figure of every source is shown, with repository, commit and file."""

from analysis.show.authors_settings import FOLLOWED, rates_block, settings_block


def test_every_rate_of_every_source_is_shown(authors):
    facts, block = authors.facts, rates_block(authors)
    assert len(block.rows) == len(facts.learning_rates)
    shown = {(row[2], row[3], row[1], row[4]) for row in block.rows}
    for rates in facts.learning_rates:
        source = facts.sources[rates.source].short
        texts = [cells for where, file, _, cells in shown if (where, file) == (source, rates.file)]
        assert any(all(figure.text in text for figure in rates.cells.values()) for text in texts)


def test_the_sources_of_lora_on_squad_stand_together_and_one_is_followed(authors):
    rows = [row for row in rates_block(authors).rows if row[:2] == ("DeBERTaV3-base", "LoRA") and "SQuAD" in row[4]]
    assert [(row[2], row[4], row[5]) for row in rows] == [
        ("Vepricov/Weight_Lora 56ce27b (2025-02-16)", "SQuAD v1.1 1e-3, SQuAD v2 1e-3", "none"),
        ("Vepricov/WLoRA 25c6270 (2025-02-17)", "SQuAD v1.1 1e-3, SQuAD v2 1e-3", "none"),
        ("brain-mmo-lab/WLoRA 809edb8 (2025-03-05)", "SQuAD v1.1 1e-3, SQuAD v2 1e-3", "none"),
        ("Vepricov/LIB 9e97d60 (2025-07-14)", "SQuAD v1.1 1e-4, SQuAD v2 1e-3", "SQuAD v1.1, SQuAD v2"),
    ]


def test_what_the_sources_disagree_on_is_listed(authors):
    note = rates_block(authors).notes[1]
    assert "DeBERTaV3-base, LoRA: RTE, SQuAD v1.1;" in note
    assert "QNLI" in note
    assert "BART-large" not in note  # what one source leaves empty is no disagreement
    assert "Llama" not in note


def test_every_setting_of_every_source_is_shown_with_the_one_that_is_followed(authors):
    facts, block = authors.facts, settings_block(authors)
    assert len(block.rows) == len(facts.settings)
    assert sum(row[5] == FOLLOWED for row in block.rows) == sum(each.used for each in facts.settings)
    length = [row for row in block.rows if row[:2] == ("SQuAD: length", "WeightLoRA")]
    assert [(row[2], row[3], row[5]) for row in length] == [
        ("1024 optimizer steps", "Vepricov/Weight_Lora 56ce27b (2025-02-16)", FOLLOWED),
        ("10 epochs", "Vepricov/WLoRA 25c6270 (2025-02-17)", ""),
    ]
    assert all(row[4] for row in block.rows)  # every one names its file
