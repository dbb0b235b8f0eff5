from studies.ablations import memory_constant


def test_the_constant_makes_every_saving_smaller():
    rows = memory_constant.measure(memory_constant.ABLATION, None).rows
    assert rows[0][0] == 8
    assert rows[0][4] == "10.1 % / 8.0 %"  # (13.062 - 11.738) / 13.062, and with 3.5 more below
    for row in rows:
        for cell in row[2:]:
            measured, drawn = (float(part.removesuffix(" %")) for part in cell.split(" / "))
            assert drawn < measured
