from studies.ablations import inner_products


def test_raw_products_put_the_selected_first_and_normalised_ones_do_not():
    rows = inner_products.measure(inner_products.ABLATION, None).rows
    among = {(kind, keep): count for kind, keep, count, *_ in rows}
    assert among["raw", 5] > among["normalised", 5]
    assert among["raw", 10] > among["normalised", 10]
    assert all(len(row[5].split(", ")) == row[1] for row in rows)
