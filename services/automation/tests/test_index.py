from hypothesis import given
from hypothesis import strategies as st

from relevo.automation.domain.index import Index, best, keys_of
from relevo.automation.domain.triggers import FIELDS
from relevo.kernel.conditions import Facts, compile_condition, parse

from .samples import contains

SCHEMA = FIELDS["labels_changed"] | FIELDS["message_received"]
_WORDS = st.sampled_from(
    ["año", "ano", "Error", "c++", "¿?", "dos", "devolución", "use c++11", "dos devoluciones", "+c"]
)
_TEXTS = st.lists(_WORDS, max_size=4).map(" ".join)
_LABELS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3)
_CHANNELS = st.sampled_from(["email", "webchat", "sms"])


def _leaf(field: str, operator: str, values, **options):
    return st.fixed_dictionaries(
        {"field": st.just(field), "operator": st.just(operator), "value": values},
        optional={name: st.booleans() for name in options},
    )


_LEAVES = st.one_of(
    _leaf("message.text", "contains", _WORDS, fold_n=1, plural=1),
    _leaf("message.text", "contains", _WORDS, fold_n=1, whole_words=1),
    _leaf("message.text", "not_contains", _WORDS),
    _leaf("message.text", "any_word", st.lists(_WORDS, min_size=1, max_size=3), fold_n=1),
    _leaf("message.text", "equals", _WORDS, fold_n=1),
    _leaf("message.text", "in", st.lists(_WORDS, min_size=1, max_size=3)),
    _leaf("message.text", "starts_with", _WORDS),
    _leaf("labels.added", "contains_any", _LABELS),
    _leaf("labels.added", "contains_all", _LABELS),
    _leaf("labels.added", "contains_none", _LABELS),
    _leaf("labels.added", "equals", _LABELS),
    _leaf("conversation.channel", "equals", _CHANNELS),
    _leaf("conversation.channel", "not_equals", _CHANNELS),
    _leaf("conversation.channel", "in", st.lists(_CHANNELS, min_size=1, max_size=2)),
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)
_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "message.text": st.none() | _TEXTS,
        "labels.added": st.none() | _LABELS.map(tuple),
        "conversation.channel": st.none() | _CHANNELS,
    },
)


@given(st.lists(_TREES, max_size=8), _FACTS)
def test_the_index_never_leaves_out_what_matches(trees, values) -> None:
    conditions = [parse(tree, SCHEMA) for tree in trees]
    facts = Facts(values)
    candidates = Index((place, keys_of(condition)) for place, condition in enumerate(conditions)).candidates(facts)
    assert candidates == sorted(set(candidates))
    matching = {place for place, condition in enumerate(conditions) if compile_condition(condition)(facts)}
    assert matching <= set(candidates)


def test_the_index_leaves_out_the_rest() -> None:
    conditions = [parse(contains("message.text", f"palabra{n}"), SCHEMA) for n in range(1000)]
    index = Index((place, keys_of(condition)) for place, condition in enumerate(conditions))
    assert index.candidates(Facts({"message.text": "La palabra7 y la PALABRA12"})) == [7, 12]


def test_a_word_tells_more_than_a_value() -> None:
    channel = {"field": "conversation.channel", "operator": "equals", "value": "email"}
    word = keys_of(parse(contains("message.text", "error grave"), SCHEMA))
    assert keys_of(parse({"all": [channel, contains("message.text", "error grave")]}, SCHEMA)) == word
    assert best([None, None]) is None
    assert keys_of(parse({"any": [channel, {"not": channel}]}, SCHEMA)) is None
