"""Terms of context are read from text, say their canonical text, and refuse what is wrong."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.stacking import context_grammar as grammar
from birdstack.stacking.context_grammar import (
    DEFAULT_TERMS,
    FOCAL_TERMS,
    TERMS,
    parse_term,
    parse_terms,
)
from birdstack.store.errors import UsageError

SHIFTS = st.integers(1, grammar.FURTHEST)
RADII = st.integers(1, grammar.WIDEST)
WEIGHTS = st.integers(1, grammar.WIDEST).flatmap(
    lambda radius: st.lists(st.floats(1e-3, 1e3), min_size=2 * radius + 1, max_size=2 * radius + 1)
)
ANY_TERM = st.one_of(
    st.builds(grammar.Lag, SHIFTS),
    st.builds(grammar.Lead, SHIFTS),
    st.builds(grammar.MinusLocalMean, RADII),
    st.builds(grammar.LocalMax, RADII),
    st.builds(grammar.LogSumExp, RADII),
    st.builds(grammar.Smooth, WEIGHTS.map(tuple)),
    st.sampled_from([kind() for kind in TERMS.values() if not dataclasses.fields(kind)]),
)


@given(st.lists(ANY_TERM, min_size=1, unique=True))
def test_canonical_text_is_read_back(terms) -> None:
    """Every term equals what its text is read as, alone and in a list."""
    assert [parse_term(str(term)) for term in terms] == terms
    assert parse_terms(" ".join(map(str, terms))) == tuple(terms)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" lag( 03 ) ", "lag(3)"),
        ("smooth(.1, .2, .4, .2, .1)", "smooth(0.1,0.2,0.4,0.2,0.1)"),
        ("smooth(1,2.0,1e0)", "smooth(1,2,1)"),
        ("rank()", "rank"),
    ],
)
def test_spellings_share_one_text(text: str, canonical: str) -> None:
    """Blanks, leading zeros and spellings of a number do not tell terms apart."""
    assert str(parse_term(text)) == canonical


def test_a_list_takes_ranges_and_separators() -> None:
    """Blanks, semicolons and line ends part terms, and a range stands for its numbers."""
    found = parse_terms("lag(1..3); lead( 1 .. 2 )\n smooth(1, 2, 1) rank")
    wanted = "lag(1) lag(2) lag(3) lead(1) lead(2) smooth(1,2,1) rank"
    assert " ".join(map(str, found)) == wanted
    assert parse_terms(["lag(1..2)", grammar.Rank()]) == (*found[:2], grammar.Rank())


def test_the_default_set_is_the_documented_one() -> None:
    """The names of columns that stored stackers refer to do not change by accident."""
    assert " ".join(map(str, DEFAULT_TERMS)) == (
        "lag(1) lag(2) lag(3) lead(1) lead(2) lead(3) minus_local_mean(1) local_max(1) "
        "logsumexp(1) smooth(0.1,0.2,0.4,0.2,0.1) rank window_max window_sum position "
        "others_mean others_max"
    )
    assert set(DEFAULT_TERMS) - set(FOCAL_TERMS) == {grammar.OthersMean(), grammar.OthersMax()}


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("lagg(1)", "'lagg(1)': there is no term 'lagg'", "write lag"),
        ("LogSumExp(1)", "no term 'LogSumExp'", "write logsumexp"),
        ("zzz", "no term 'zzz'", "use one of lag, lead"),
        ("lag", "'lag': lag takes one whole number of windows, 1 to 60", "write it like lag(1)"),
        ("lag(0)", "'lag(0)': lag takes one whole number", "lag(1)"),
        ("lag(-1)", "'lag(-1)': lag takes one whole number", "lag(1)"),
        ("lead(61)", "lead takes one whole number of windows, 1 to 60", "lead(1)"),
        ("lag(1.5)", "'lag(1.5)'", "lag(1)"),
        ("lag(1,2)", "'lag(1,2)'", "lag(1)"),
        ("local_max(13)", "a radius of 1 to 12 windows", "local_max(1)"),
        ("smooth(1,2)", "smooth takes an odd number of weights", "smooth(0.1,0.2,0.4,0.2,0.1)"),
        ("smooth(1)", "3 to 25", "smooth(0.1"),
        ("smooth(1,0,1)", "weights above zero", "smooth(0.1"),
        ("smooth(1,nan,1)", "weights above zero", "smooth(0.1"),
        ("smooth(1,inf,1)", "weights above zero", "smooth(0.1"),
        ("smooth(1,2e6,1)", "none more than a million times another", "smooth(0.1"),
        ("smooth(1,x,1)", "weights above zero", "smooth(0.1"),
        ("rank(1)", "rank takes no argument", "write it like rank"),
        ("lag(1", "a term is a name, or name(arguments)", "lag(1)"),
        ("", "a term is a name", "lag(1)"),
    ],
)
def test_an_error_names_the_term_the_rule_and_what_is_near(text, said, remedy) -> None:
    """What was written, what would be right."""
    with pytest.raises(UsageError) as caught:
        parse_term(text)
    assert said in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lag(1) lag(01)", "'lag(1)' is named twice"),
        ("  ", "no term is named"),
        ("lag(3..1)", "the range 3..1 is empty"),
        ("lag(1..61)", "the range 1..61"),
        ("lag(1) lagg(2..3)", "no term 'lagg'"),
        ("lag(1", "'lag(1'"),
        ("rank,position", "'rank,position'"),
    ],
)
def test_a_list_with_a_fault_is_refused(text: str, said: str) -> None:
    """The message names the fault and where it is."""
    with pytest.raises(UsageError) as caught:
        parse_terms(text)
    assert said in caught.value.message
