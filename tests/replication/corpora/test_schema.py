import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.schema import (
    SLOTS,
    MeaningRepresentation,
    Row,
    csv_text,
    group_references,
    linearise,
    parse_linearised,
    parse_mr,
    read_csv,
)
from replication.errors import DataError

GOOD = "name[The Mill], eatType[pub]"

# Whatever a value may hold: no brackets, no line breaks, no space at the ends. Commas and quotes are fine.
values = (
    st.text(st.characters(exclude_characters="[]\r\n\x00", exclude_categories=("Cs",)), min_size=1, max_size=20)
    .map(str.strip)
    .filter(lambda value: value and len(value.splitlines()) == 1)
)
prices = st.sampled_from(["£20-25", "less than £20", "more than £30"])


@st.composite
def meanings(draw, value=values | prices):
    slots = draw(st.lists(st.sampled_from(SLOTS), min_size=1, max_size=8, unique=True))
    return MeaningRepresentation(tuple((slot, draw(value)) for slot in slots))


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@given(meanings())
def test_parsing_the_release_form_gives_the_meaning_back(mr):
    assert parse_mr(str(mr)) == mr


@given(meanings(st.sampled_from(["The Mill", "Café Rouge", "5 out of 5", "yes"]) | prices))
def test_the_linear_form_can_be_read_back(mr):
    assert parse_linearised(linearise(mr)) == mr
    assert linearise(str(mr)) == linearise(mr)


def test_linear_form_is_the_recipes():
    mr = "name[The Mill], eatType[coffee shop], food[French], priceRange[£20-25], area[riverside]"
    assert linearise(mr) == (
        "name : The Mill | Type : coffee shop | food : French | price : £ 20 - 25 | area : riverside"
    )
    other = "name[X], priceRange[more than £30], customer rating[5 out of 5], familyFriendly[no]"
    assert linearise(other) == "name : X | price : more than £ 30 | customer rating : 5 out of 5 | family friendly : no"


def test_get_reads_one_slot():
    mr = parse_mr(GOOD)
    assert mr.get("eatType") == "pub"
    assert mr.get("food") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "malformed"),
        ("name", "malformed"),
        ("name[The Mill", "malformed"),
        ("name[The Mill],", "malformed"),
        ("name[The Mill] eatType[pub]", "malformed"),
        ("name[[The Mill]]", "malformed"),
        ("name[]", "'name' has the value ''"),
        ("[pub]", "unknown slot ''"),
        ("name[The Mill], colour[red]", "unknown slot 'colour'"),
        ("Name[The Mill]", "unknown slot 'Name'"),
        ("name[The Mill], name[The Eagle]", "duplicate slot 'name'"),
    ],
)
def test_a_bad_meaning_representation_is_refused(text, complaint):
    with pytest.raises(DataError, match=complaint.replace("[", r"\[")):
        parse_mr(text)


def test_malformed_text_says_where_it_stops():
    with pytest.raises(DataError, match="stopped at character 16"):
        parse_mr("name[The Mill],?")


@pytest.mark.parametrize("text", ["name The Mill", "colour : red"])
def test_a_bad_linear_form_is_refused(text):
    with pytest.raises(DataError):
        parse_linearised(text)


@given(st.lists(st.builds(Row, meanings().map(str), texts), min_size=1, max_size=5), st.booleans())
def test_csv_round_trip_with_any_text(rows, byte_order_mark):
    data = csv_text(rows).encode("utf-8-sig" if byte_order_mark else "utf-8")
    assert read_csv(data) == rows


def test_crlf_bom_quoted_line_breaks_and_any_column_order():
    data = b'\xef\xbb\xbf"ref","mr"\r\n"two\nlines, one row","name[A], near[B]"\r\nplain,name[A]\r\n\r\n'
    assert read_csv(data) == [Row("name[A], near[B]", "two\nlines, one row"), Row("name[A]", "plain")]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("mr\nname[A]\n", "line 1: column ref is missing"),
        ("", "line 1: column mr and ref is missing"),
        ("mr,ref,mr\nname[A],x,name[A]\n", "line 1: duplicate column name"),
        ("mr,ref\n", "no rows under the header"),
        ('mr,ref\nname[A],"two\nlines"\nname[A],x,y\n', r"data row 2 \(line 4\): 3 columns"),
        ("mr,ref\nname[A],x\nname[A]\n", r"data row 2 \(line 3\): 1 columns"),
        ("mr,ref\nname[A],x\n\nname[A], \n", r"data row 2 \(line 4\): the reference is empty"),
        ("mr,ref\nname[A],x\ncolour[red],x\n", r"data row 2 \(line 3\): unknown slot 'colour'"),
        ("mr,ref\nname(A),x\n", r"data row 1 \(line 2\): malformed"),
        ('mr,ref\nname[A],x\nname[A],"cut o', "line 3: not well-formed CSV"),
        ('mr,ref\nname[A],"x"y\n', "line 2: not well-formed CSV"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_row(tmp_path, body, complaint):
    path = tmp_path / "rows.csv"
    path.write_bytes(body.encode())
    with pytest.raises(DataError, match=rf"rows\.csv.*{complaint}"):
        read_csv(path)


def test_other_encodings_are_refused_with_the_line():
    with pytest.raises(DataError, match="price list, line 2: not UTF-8"):
        read_csv("mr,ref\nname[Café],x\n".encode("latin-1"), source="price list")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv"):
        read_csv(tmp_path / "absent.csv")


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.text(max_size=3))))
def test_grouping_keeps_every_reference_in_order(pairs):
    groups = group_references(Row(mr, text) for mr, text in pairs)
    assert [mr for mr, _ in groups] == list(dict.fromkeys(mr for mr, _ in pairs))
    assert all(texts == [text for other, text in pairs if other == mr] for mr, texts in groups)
