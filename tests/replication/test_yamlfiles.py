import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from replication.yamlfiles import LARGEST, Loader

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc&*", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=values)
def test_what_yaml_writes_is_read_back_with_its_aliases(value):
    assert yaml.load(yaml.dump([value, value]), Loader) == [value, value]


def test_aliases_that_write_out_without_end_are_refused():
    lines = [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(yaml.YAMLError, match=f"more than {LARGEST:,} values"):
        yaml.load("\n".join(["a: &a [x]", *lines]), Loader)


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: *a}", "? &a [*a]\n: 1"])
def test_an_alias_of_itself_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="name themselves"):
        yaml.load(text, Loader)


def test_a_tag_makes_no_object():
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        yaml.load("!!python/object/apply:os.system [id]", Loader)
