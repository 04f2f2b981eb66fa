import timeit
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import ARRAY, Boolean, DateTime, Integer, Numeric, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import JSONB

from relevo.kernel.conditions import (
    ConditionError,
    Facts,
    FieldType,
    NotExpressible,
    Operator,
    compile_condition,
    explain,
    parse,
    to_sql,
)
from relevo.kernel.conditions.model import NEGATIONS, OPERATORS
from relevo.kernel.text import clean

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SCHEMA = {
    "body": FieldType.TEXT,
    "code": FieldType.KEYWORD,
    "amount": FieldType.NUMBER,
    "since": FieldType.DATETIME,
    "labels": FieldType.LIST,
    "vip": FieldType.BOOLEAN,
    "previous.status": FieldType.KEYWORD,
}


def holds(raw, **facts):
    condition = parse(raw, SCHEMA)
    outcome = compile_condition(condition)(facts)
    assert explain(condition, facts).outcome is outcome
    return outcome


def leaf(field, operator, value=None, **options):
    return {"field": field, "operator": operator, "value": value, **options}


# --- The three examples of the product page ---------------------------------------------------------------------------

EXAMPLE_FIELDS = {
    "browser.language": FieldType.KEYWORD,
    "message.text": FieldType.TEXT,
    "inbox.channel": FieldType.KEYWORD,
    "subject": FieldType.TEXT,
}


@pytest.mark.parametrize(
    ("raw", "facts", "expected"),
    [
        ({"field": "browser.language", "operator": "starts_with", "value": "es"}, {"browser.language": "es-MX"}, True),
        ({"field": "browser.language", "operator": "starts_with", "value": "es"}, {"browser.language": "en-US"}, False),
        ({"field": "browser.language", "operator": "starts_with", "value": "es"}, {}, False),
        (
            {"field": "message.text", "operator": "contains", "value": "error"},
            {"message.text": "Me sale un ERROR al pagar"},
            True,
        ),
        (
            {"field": "message.text", "operator": "contains", "value": "error"},
            {"message.text": "Qué terrores nocturnos"},
            False,
        ),
        (
            {
                "all": [
                    {"field": "inbox.channel", "operator": "equals", "value": "email"},
                    {"field": "subject", "operator": "contains", "value": "reembolso"},
                ]
            },
            {"inbox.channel": "email", "subject": "Solicitud de Reembolso (pedido 12)"},
            True,
        ),
        (
            {
                "all": [
                    {"field": "inbox.channel", "operator": "equals", "value": "email"},
                    {"field": "subject", "operator": "contains", "value": "reembolso"},
                ]
            },
            {"inbox.channel": "whatsapp", "subject": "reembolso"},
            False,
        ),
    ],
)
def test_the_examples_of_the_product_page(raw, facts, expected):
    assert compile_condition(parse(raw, EXAMPLE_FIELDS))(facts) is expected


# --- What each operator means -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "body", "expected"),
    [
        (leaf("body", "equals", "CAMIÓN"), "camion", True),
        (leaf("body", "contains", "año"), "feliz ano nuevo", False),
        (leaf("body", "contains", "año"), "feliz AÑO nuevo", True),
        (leaf("body", "contains", "año", fold_n=True), "feliz ano nuevo", True),
        (leaf("body", "contains", "pingüino"), "un pinguino", True),
        (leaf("body", "contains", "factura"), "dos facturas", False),
        (leaf("body", "contains", "factura", plural=True), "dos facturas", True),
        (leaf("body", "contains", "devolución", plural=True), "sus devoluciones", True),
        (leaf("body", "contains", "nota de crédito", plural=True), "las notas de créditos", True),
        (leaf("body", "contains", "nota de crédito", plural=True), "notas sin crédito", False),
        (leaf("body", "not_contains", "factura", plural=True), "dos facturas", False),
        (leaf("body", "any_word", ["refund", "ticket"], plural=True), "my tickets", True),
        (leaf("body", "contains", "¿?", plural=True), "hola ¿?", True),
        (leaf("body", "contains", "factur", whole_words=False), "dos facturas", True),
        (leaf("body", "contains", "no funciona"), "esto NO FUNCIONA.", True),
        (leaf("body", "any_word", ["queja", "reclamo"]), "un reclamo", True),
        (leaf("body", "any_word", "queja reclamo"), "un reclamo", True),
        (leaf("body", "any_word", ["queja", "reclamo"]), "reclamos", False),
        (leaf("body", "starts_with", "hol"), "¡Hola!", False),
        (leaf("body", "starts_with", "hol"), "HOLA", True),
        (leaf("body", "in", ["sí", "no"]), "SI", True),
        (leaf("body", "matches", r"pedido\s+#?\d{4,}"), "Mi PEDIDO #12345", True),
        (leaf("body", "matches", "avión"), "AVION", True),
        (leaf("body", "matches", r"^\S+$"), "dos palabras", False),
        (leaf("body", "present"), "", False),
        (leaf("body", "present"), " ", True),
        (leaf("body", "absent"), "", True),
        (leaf("body", "not_equals", "x"), None, True),
        (leaf("body", "not_contains", "x"), None, True),
        (leaf("body", "contains", "x"), None, False),
        (leaf("body", "contains", "7"), 7, False),
    ],
)
def test_text_operators(raw, body, expected):
    assert holds(raw, body=body) is expected


@pytest.mark.parametrize(
    ("raw", "facts", "expected"),
    [
        (leaf("code", "equals", "CO"), {"code": "co"}, False),
        (leaf("code", "in", ["CO", "MX"]), {"code": "MX"}, True),
        (leaf("previous.status", "equals", "open"), {"previous.status": "open"}, True),
        (leaf("amount", "greater", 10), {"amount": 10.5}, True),
        (leaf("amount", "equals", 0.1), {"amount": Decimal("0.10")}, True),
        (leaf("amount", "equals", 0.1), {"amount": "0.1"}, True),
        (leaf("amount", "equals", 10), {"amount": 10.0}, True),
        (leaf("amount", "equals", 2.5), {"amount": Decimal("2.50")}, True),
        (leaf("amount", "at_most", 10), {"amount": True}, False),
        (leaf("amount", "at_least", 0), {"amount": float("nan")}, False),
        (leaf("amount", "in", [1, 2.5]), {"amount": 2.5}, True),
        (leaf("since", "less", "2026-03-10T07:00:00-05:00"), {"since": NOW - timedelta(seconds=1)}, True),
        (leaf("since", "at_least", "2026-03-10T12:00:00Z"), {"since": "2026-03-10T12:00:00Z"}, True),
        (leaf("since", "less", "2030-01-01T00:00:00Z"), {"since": NOW.replace(tzinfo=None)}, False),
        (leaf("since", "days_before", 7), {"since": NOW - timedelta(days=7), "now": NOW}, True),
        (leaf("since", "days_before", 7), {"since": NOW - timedelta(days=7, seconds=-1), "now": NOW}, False),
        (leaf("since", "days_before", 7), {"now": NOW}, False),
        (leaf("labels", "contains_any", ["vip", "x"]), {"labels": ["vip"]}, True),
        (leaf("labels", "contains_all", ["vip", "x"]), {"labels": ["vip"]}, False),
        (leaf("labels", "contains_none", ["vip", "x"]), {"labels": ["vip"]}, False),
        (leaf("labels", "contains_none", ["vip"]), {}, True),
        (leaf("labels", "equals", ["a", "b"]), {"labels": ["b", "a", "a"]}, True),
        (leaf("labels", "equals", ["a", "b"]), {"labels": ["a", "b", "c"]}, False),
        (leaf("labels", "absent"), {"labels": []}, True),
        (leaf("vip", "equals", value=True), {"vip": True}, True),
        (leaf("vip", "equals", value=False), {}, False),
        (leaf("vip", "not_equals", value=True), {}, True),
        ({"all": []}, {}, True),
        ({"not": {"not": leaf("vip", "equals", value=True)}}, {"vip": True}, True),
        ({"any": [leaf("vip", "equals", value=True), leaf("code", "present")]}, {"code": "x"}, True),
    ],
)
def test_other_operators(raw, facts, expected):
    assert holds(raw, **facts) is expected


def test_days_before_asks_the_facts_for_the_time_and_never_the_clock():
    judge = compile_condition(parse(leaf("since", "days_before", 1), SCHEMA))
    with pytest.raises(LookupError, match="now"):
        judge({"since": NOW})


# --- Random trees -----------------------------------------------------------------------------------------------------

some = st.sampled_from
# Few letters, so that phrases do turn up in texts, as words and within longer ones.
phrases = (
    (st.text(some("aÁñn .+"), min_size=1, max_size=3) | st.text(some("abéüN-😀"), min_size=1))
    .map(clean)
    .filter(str.strip)
)
keywords = some(["a", "b", "A", "ab", "ñ", "%", "_", "\\"])
numbers = st.integers(-3, 3) | some([0.1, 0.5, 2.0, 2.5, 10**20])
times = some([NOW + timedelta(hours=12 * n) for n in range(-4, 5)])


def _value(kind, operator):
    if operator in (Operator.PRESENT, Operator.ABSENT):
        return st.none()
    if operator is Operator.DAYS_BEFORE:
        return some([0, 0.5, 1, 2])
    if operator is Operator.MATCHES:
        return some(["a+", "[ab]ñ?", "^a", "é|ü"])
    one = {
        FieldType.TEXT: phrases,
        FieldType.KEYWORD: keywords,
        FieldType.NUMBER: numbers,
        FieldType.DATETIME: times.map(datetime.isoformat),
        FieldType.LIST: st.lists(keywords, min_size=1, max_size=3),
        FieldType.BOOLEAN: st.booleans(),
    }[kind]
    return st.lists(one, min_size=1, max_size=3) if operator in (Operator.IN, Operator.ANY_WORD) else one


@st.composite
def leaf_trees(draw, *, in_sql):
    field = draw(some(sorted(SCHEMA)))
    kind = SCHEMA[field]
    operator = draw(some(sorted(OPERATORS[kind] - ({Operator.MATCHES} if in_sql else set()))))
    raw = leaf(field, operator.value, draw(_value(kind, operator)))
    if kind is FieldType.TEXT and operator not in (Operator.PRESENT, Operator.ABSENT):
        raw["fold_n"] = draw(st.booleans())
    if operator in (Operator.CONTAINS, Operator.NOT_CONTAINS, Operator.ANY_WORD):
        raw["whole_words"] = draw(st.booleans())
        raw["plural"] = not in_sql and raw["whole_words"] and draw(st.booleans())
    return raw


def trees(*, in_sql):
    return st.recursive(
        leaf_trees(in_sql=in_sql),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: {"all": items})
            | st.lists(inner, min_size=1, max_size=3).map(lambda items: {"any": items})
            | inner.map(lambda item: {"not": item})
        ),
        max_leaves=5,
    )


facts_of_all_kinds = st.fixed_dictionaries(
    {
        "body": st.none()
        | st.just("")
        | st.text(some("aÁñn .+"), max_size=10).map(clean)
        | st.text(some("abéüN-😀"), max_size=10).map(clean),
        "code": st.none() | st.just("") | keywords,
        "amount": st.none() | numbers,
        "since": st.none() | times,
        "labels": st.none() | st.lists(keywords, max_size=3),
        "vip": st.none() | st.booleans(),
        "previous.status": st.none() | keywords,
        "now": st.just(NOW),
    }
)


def _depth(raw):
    children = [*raw.get("all", []), *raw.get("any", []), *([raw["not"]] if "not" in raw else [])]
    return 1 + max(map(_depth, children), default=0)


@settings(deadline=None, max_examples=400)
@example(leaf("body", "contains", "a"), [{**dict.fromkeys(SCHEMA), "body": body} for body in ("aa", "a", "a.a", "na")])
@example(leaf("amount", "in", [0, 0.1, 10**20]), [{**dict.fromkeys(SCHEMA), "amount": 0.1}])
@given(trees(in_sql=True).filter(lambda raw: _depth(raw) <= 10), st.lists(facts_of_all_kinds, min_size=1, max_size=10))
def test_a_filter_in_sql_selects_what_it_holds_for_in_memory(database, raw, given_facts):
    condition = parse(raw, SCHEMA)
    rows = [
        {
            **facts,
            "row": row,
            "since": facts["since"] and facts["since"].isoformat(),
            "now": None,
        }
        for row, facts in enumerate(given_facts)
    ]
    table = (
        func.jsonb_to_recordset(bindparam(None, rows, type_=JSONB))
        .table_valued(
            column("row", Integer),
            column("body", Text),
            column("code", Text),
            column("amount", Numeric),
            column("since", DateTime(timezone=True)),
            column("labels", ARRAY(Text)),
            column("vip", Boolean),
            column("previous.status", Text),
        )
        .render_derived(name="t", with_types=True)
    )
    expression = to_sql(condition, {name: table.c[name] for name in SCHEMA}, now=NOW)
    found = database.execute(select(table.c.row, expression).order_by(table.c.row)).all()
    judge = compile_condition(condition)
    assert [tuple(row) for row in found] == [(row, judge(facts)) for row, facts in enumerate(given_facts)]


@settings(deadline=None)
@given(trees(in_sql=False).filter(lambda raw: _depth(raw) <= 10), facts_of_all_kinds)
def test_a_condition_explains_itself_and_survives_json(raw, facts):
    condition = parse(raw, SCHEMA)
    outcome = compile_condition(condition)(facts)
    explained = explain(condition, Facts(facts))
    assert explained.outcome is outcome
    for found in explained.leaves:
        alone = compile_condition(parse(found.leaf.model_dump(mode="json"), SCHEMA))
        assert found.outcome is alone(facts)
        assert found.actual == facts[found.leaf.field]
    again = parse(condition.to_json(), SCHEMA)
    assert again == condition
    assert compile_condition(again)(facts) is outcome


@settings(deadline=None)
@given(leaf_trees(in_sql=False), facts_of_all_kinds)
def test_a_negative_operator_is_the_opposite_of_its_positive(raw, facts):
    positive = NEGATIONS.get(Operator(raw["operator"]))
    if positive is not None:
        opposite = raw | {"operator": positive.value}
        assert holds(raw, **facts) is not holds(opposite, **facts)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | some([*SCHEMA, *Operator]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(some(["all", "any", "not", "field", "operator", "value", "x"]), inner, max_size=3)
    ),
)


@settings(deadline=None)
@given(json_like)
def test_any_document_is_parsed_or_refused_with_reasons(raw):
    problems = ()
    try:
        condition = parse(raw, SCHEMA)
    except ConditionError as refused:
        problems = refused.problems
    else:
        assert compile_condition(condition)({"now": NOW}) in (True, False)
        return
    assert problems
    for problem in problems:
        assert all(problem.reason(language) and problem.mend(language) for language in ("en", "es"))


def test_facts_of_any_type_judge_and_never_raise():
    odd = [
        None,
        "",
        "x",
        "\ud800",
        0,
        1.5,
        float("inf"),
        True,
        [],
        [None, 1],
        {},
        object(),
        b"x",
        Decimal("NaN"),
        10**400,
    ]
    for field, kind in SCHEMA.items():
        for operator in OPERATORS[kind]:
            value = _SAMPLES[kind].get(operator, _SAMPLES[kind][None])
            if operator in (Operator.PRESENT, Operator.ABSENT):
                value = None
            judge = compile_condition(parse(leaf(field, operator.value, value), SCHEMA))
            for fact in odd:
                assert judge({field: fact, "now": NOW}) in (True, False)


_SAMPLES = {
    FieldType.TEXT: {None: "x", Operator.IN: ["x"], Operator.ANY_WORD: ["x"]},
    FieldType.KEYWORD: {None: "x", Operator.IN: ["x"]},
    FieldType.NUMBER: {None: 1, Operator.IN: [1]},
    FieldType.DATETIME: {None: "2026-01-01T00:00:00Z", Operator.DAYS_BEFORE: 1},
    FieldType.LIST: {None: ["x"]},
    FieldType.BOOLEAN: {None: True},
}


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path", "code"),
    [
        (None, "", "not_a_condition"),
        ({}, "", "not_a_condition"),
        ({"all": [], "any": []}, "", "not_a_condition"),
        ({"any": []}, "/any", "empty"),
        ({"all": {}}, "/all", "wrong_shape"),
        ({"all": [], "x": 1}, "/x", "unknown_key"),
        ({"all": [{"any": [{"field": "code"}]}]}, "/all/0/any/0/operator", "missing"),
        ({"not": {"not": {"not": {"field": "code"}}}}, "/not/not/not/operator", "missing"),
        ({"all": [{"all": [{"all": ["x"]}]}]}, "/all/0/all/0/all/0", "not_a_condition"),
        (leaf("code", "resembles", "x"), "/operator", "unknown_operator"),
        (leaf("colour", "equals", "x"), "/field", "unknown_field"),
        (leaf("amount", "contains", "x"), "/operator", "operator_unfit"),
        (leaf("code", "equals", "x", fold_n=True), "/fold_n", "option_unfit"),
        (leaf("body", "equals", "x", plural=True), "/plural", "option_unfit"),
        (leaf("body", "contains", "x", plural=True, whole_words=False), "/plural", "option_unfit"),
        (leaf("body", "contains", "x", plural="yes"), "/plural", "not_a_switch"),
        (leaf("body", "contains", ""), "/value", "value_text"),
        (leaf("body", "contains", "\u0301"), "/value", "value_text"),
        (leaf("body", "contains", "x" * 1001), "/value", "value_text"),
        (leaf("body", "any_word", ["a", ""]), "/value/1", "value_text"),
        (leaf("body", "any_word", "  "), "/value", "value_list"),
        (leaf("body", "matches", "(a"), "/value", "value_pattern"),
        (leaf("body", "matches", r"(a)\1"), "/value", "value_pattern"),
        (leaf("body", "matches", "((a{100}){100}){100}"), "/value", "value_pattern"),
        (leaf("amount", "equals", "12"), "/value", "value_number"),
        (leaf("amount", "equals", float("nan")), "/value", "value_number"),
        (leaf("amount", "in", [1, "x"]), "/value/1", "value_number"),
        (leaf("since", "less", "2026-01-01T00:00:00"), "/value", "value_time"),
        (leaf("since", "less", "yesterday"), "/value", "value_time"),
        (leaf("since", "days_before", -1), "/value", "value_days"),
        (leaf("labels", "contains_any", "vip"), "/value", "value_list"),
        (leaf("vip", "equals", "true"), "/value", "value_boolean"),
        (leaf("vip", "present", value=True), "/value", "value_unwanted"),
        ({"all": [leaf("vip", "present")] * 201}, "", "too_many"),
        ({"all": [{"all": [leaf("vip", "present")] * 150}] * 2}, "", "too_many"),
    ],
)
def test_a_bad_tree_is_refused_where_it_is_bad(raw, path, code):
    with pytest.raises(ConditionError) as refused:
        parse(raw, SCHEMA)
    assert [(problem.path, problem.code) for problem in refused.value.problems] == [(path, code)]


def test_every_fault_is_told_at_once_in_both_languages():
    with pytest.raises(ConditionError) as refused:
        parse({"all": [leaf("colour", "equals", "x"), leaf("amount", "equals", "x")]}, SCHEMA)
    first, second = refused.value.problems
    assert (first.path, second.path) == ("/all/0/field", "/all/1/value")
    assert first.reason("es") == 'Aquí no existe el campo "colour".'
    assert second.mend("en") == "Give a number such as 12 or 0.5."


def test_a_hostile_depth_is_refused_not_followed():
    raw = leaf("vip", "present")
    for _ in range(100_000):
        raw = {"not": raw}
    with pytest.raises(ConditionError, match="nested deeper than 10"):
        parse(raw, SCHEMA)


@pytest.mark.parametrize(
    ("raw", "what"),
    [(leaf("body", "matches", "a"), "matches"), (leaf("body", "contains", "a", plural=True), "plural")],
)
def test_sql_says_what_it_cannot_express(raw, what):
    with pytest.raises(NotExpressible) as refused:
        to_sql(parse(raw, SCHEMA), {"body": column("body", Text)})
    assert (refused.value.field, refused.value.what) == ("body", what)


# --- Speed ------------------------------------------------------------------------------------------------------------


def test_a_condition_of_five_leaves_is_judged_in_well_under_50_microseconds():
    judge = compile_condition(
        parse(
            {
                "all": [
                    leaf("code", "in", ["CO", "MX"]),
                    leaf("body", "contains", "reembolso"),
                    leaf("amount", "greater", 10),
                    {"any": [leaf("labels", "contains_any", ["vip"]), leaf("vip", "equals", value=True)]},
                ]
            },
            SCHEMA,
        )
    )
    facts = {
        "code": "CO",
        "body": "Quiero un reembolso de mi último pedido " * 3,
        "amount": 12,
        "labels": [],
        "vip": True,
    }
    assert judge(facts)
    assert min(timeit.repeat(lambda: judge(facts), number=200, repeat=5)) / 200 < 50e-6


def test_a_hostile_pattern_on_a_long_text_costs_little():
    judge = compile_condition(parse(leaf("body", "matches", "(a*)*(a|aa)+$x{0,50}"), SCHEMA))
    text = "a" * 150_000 + "b"
    assert min(timeit.repeat(lambda: judge({"body": text}), number=1, repeat=3)) < 0.05
