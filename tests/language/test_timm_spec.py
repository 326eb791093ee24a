"""TimmNetwork: its text, its arguments and its key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiri_search.language import Net, SpecError, TimmNetwork, parse_net, parse_network
from hiri_search.language.timm.spec import MAX_TIMM_LENGTH

SCALARS = st.one_of(st.integers(-999, 999), st.booleans(), st.integers(-400, 400).map(lambda n: n / 4), st.just("gelu"))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, min_size=2, max_size=4).map(tuple))
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
TIMM_NETWORKS = st.builds(
    lambda name, arguments: TimmNetwork(name, tuple(sorted(arguments.items()))),
    NAMES,
    st.dictionaries(NAMES, VALUES, max_size=3),
)


@given(TIMM_NETWORKS)
def test_parsing_the_text_of_a_timm_network_gives_the_network(network: TimmNetwork) -> None:
    parsed = parse_network(str(network))
    assert parsed == network
    assert repr(parsed) == repr(network)  # 1, 1.0 and True are equal, but a timm builder may treat them differently
    assert parsed.key == network.key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("timm:resnet50", TimmNetwork("resnet50")),
        ("  timm:resnet50\n", TimmNetwork("resnet50")),
        ("timm:a depths=1,1,2", TimmNetwork("a", (("depths", (1, 1, 2)),))),
        ("timm:a scale=1.5 flag=true act=gelu", TimmNetwork("a", (("act", "gelu"), ("flag", True), ("scale", 1.5)))),
        ("timm:a flag=false", TimmNetwork("a", (("flag", False),))),
        ("timm:a low=-3", TimmNetwork("a", (("low", -3),))),
    ],
)
def test_values_are_numbers_booleans_words_and_lists(text: str, value: TimmNetwork) -> None:
    assert repr(parse_network(text)) == repr(value)


def test_the_order_of_arguments_does_not_matter() -> None:
    assert parse_network("timm:a y=2 x=1") == parse_network("timm:a x=1 y=2")


def test_a_text_without_the_prefix_is_a_spec() -> None:
    net = parse_network("hr(32 e=4)")
    assert isinstance(net, Net)
    assert net == parse_net("hr(32 e=4)")


def test_keys_are_stable() -> None:
    assert parse_network("timm:pvt_v2_b2 depths=1,1,2,1").key == "3c111686ded2"
    assert len({parse_network(text).key for text in ("timm:a", "timm:a b=1", "timm:a b=1.0", "timm:a b=true")}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:", "no valid model name"),
        ("timm:2d", "no valid model name"),
        ("timm: resnet50 extra", "not a valid argument"),
        ("timm:a depths", "not a valid argument"),
        ("timm:a depths=", "not a valid argument"),
        ("timm:a depths=1,,2", "not a valid argument"),
        ("timm:a 1=2", "not a valid argument"),
        ("timm:a b=1 b=2", "twice"),
        ("timm:" + "a" * MAX_TIMM_LENGTH, "the maximum is"),
    ],
)
def test_a_mistake_has_a_clear_message(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_network(text)
