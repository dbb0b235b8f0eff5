from studies.ablations import ranking


def test_ranking_sees_different_sets_and_negative_weights(fake_bench):
    found = ranking.measure(ranking.ABLATION, fake_bench())
    assert "negative in 6 of 6 runs" in found.shows
    assert "different sets in 6" in found.shows
    assert all(set(row[1].values()) == {1.0} for row in found.rows)
    assert all(set(row[2].values()) == {round(2 / 3, 6)} for row in found.rows)
