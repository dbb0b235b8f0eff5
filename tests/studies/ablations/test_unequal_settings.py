from studies.ablations import unequal_settings
from studies.ablations.unequal_settings import BASE, LORA, MORE, RATE, WEIGHT_LORA, share_of


def test_the_two_sides_get_what_the_labels_say(fake_bench):
    bench = fake_bench()
    found = unequal_settings.measure(unequal_settings.ABLATION, bench)
    steps = unequal_settings.ABLATION.settings["steps"]
    lora = [call for call in bench.calls if call[0].method == "lora"]
    assert {(rows, training["steps"]) for _, _, _, rows, training in lora} == {
        (50, steps),
        (70, round(steps * 28 / 15)),
    }
    assert sorted({rate for _, _, rate, _, _ in lora}) == [0.0002, 0.004]
    pairs = {(row[0], row[1]) for row in found.rows}
    assert (f"{LORA}: {RATE}", f"{LORA}: {BASE}") in pairs
    assert {(f"{WEIGHT_LORA}: {a}", f"{LORA}: {b}") for a in (BASE, MORE) for b in (BASE, MORE)} <= pairs
    for row in found.rows:
        assert row[4] == {seed: round(row[2][seed] - row[3][seed], 6) for seed in row[2]} or max(
            abs(row[4][seed] - (row[2][seed] - row[3][seed])) for seed in row[2]
        ) < 2e-6  # fmt: skip


def test_a_share_is_the_same_every_time_and_loses_no_order():
    rows = [{"id": number} for number in range(70)]
    assert share_of(rows, 5 / 7) == share_of(rows, 5 / 7)
    assert len(share_of(rows, 5 / 7)) == 50
