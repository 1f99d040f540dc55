"""Python 2's strings: read as it wrote them, written as it would have, names never imported."""

import json
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python2 import requires_python2, run_python2

from deferrable._codec import names as _names
from deferrable._codec.python2 import classic as _classic
from deferrable._codec.python2 import errors as _python2_errors
from deferrable._codec.python2 import order as _python2_order
from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall

# --- Escaping ---------------------------------------------------------------------------------

# Written by Python 2.7.18: data, data.encode('string_escape').
ESCAPED = [
    (b"", r""),
    (b"plain ~", r"plain ~"),
    (b"\t\n\r", r"\t\n\r"),
    (b"\\", r"\\"),
    (b"'\"", r"\'" + '"'),
    (b"\x00\x07\x08\x0b\x0c\x1b\x1f", r"\x00\x07\x08\x0b\x0c\x1b\x1f"),
    (b"\x7f\x80\xa0\xff", r"\x7f\x80\xa0\xff"),
    ("caf\xe9".encode(), r"caf\xc3\xa9"),
    (b"\\n\\x41", r"\\n\\x41"),
]

IN_PYTHON_2_ESCAPE_EACH = """
import json, sys
print json.dumps([text.encode('latin-1').encode('string_escape') for text in json.load(sys.stdin)])
"""


@pytest.mark.parametrize(("data", "text"), ESCAPED)
def test_escaped_text_is_what_python_2_wrote(data: bytes, text: str) -> None:
    assert _classic.escape(data) == text
    assert _classic.unescape(text) == data


@requires_python2
def test_every_byte_and_pair_of_bytes_is_escaped_as_python_2_does() -> None:
    cases = [bytes([code]) for code in range(256)]
    cases += [bytes([92, code]) for code in range(256)] + [bytes([code, 39]) for code in range(256)]

    written = run_python2(
        IN_PYTHON_2_ESCAPE_EACH, input=json.dumps([case.decode("latin-1") for case in cases])
    )

    assert [_classic.escape(case) for case in cases] == json.loads(written)


@given(st.binary())
@example(b"\\x41'\\")
def test_any_bytes_survive_escaping(data: bytes) -> None:
    text = _classic.escape(data)

    assert _classic.unescape(text) == data
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize("text", ["caf\xe9", "\\x4", "\\", None, 5, ["N."]])
def test_what_is_no_escaped_text_is_unreadable_with_its_cause(text: Any) -> None:
    with pytest.raises(UnreadableItem) as caught:
        _classic.unescape(text)

    assert caught.value.__cause__ is not None


# --- Reading what Python 2.7.18's cPickle wrote, protocols 0, 1 and 2 -------------------------


class Old:
    """In Python 2 an old-style class."""


class New:
    """In Python 2 a new-style class."""


class OldWithArgs:
    """In Python 2 an old-style class with __getinitargs__."""

    def __init__(self, a: str) -> None:
        self.made_with = a


class ShopError(Exception):
    """The user's own."""


@pytest.fixture
def shop_models(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module whose classes Python 2 pickled."""
    module = ModuleType("shop_models")
    module.__dict__.update(Old=Old, New=New, OldWithArgs=OldWithArgs)
    monkeypatch.setitem(sys.modules, "shop_models", module)
    return module


BYTE_STRINGS = ("ascii", "café", b"\xff\xfe", "", "it's", "a\nb\\")
UNICODE = ("café", "€\n\\", "😀", "")
NUMBERS = (1, -1, 2**40, 2**80, 5, 0.1, 1e100, True, False, None)
KEYS = {"k": "v", b"\xff": 1, "u": 2, 3: b"\xfe"}
SETS = ({"a", "b"}, frozenset([b"\xff"]))
MOMENTS = (
    datetime(2020, 1, 2, 3, 4, 5, 6),
    date(2020, 1, 2),
    time(3, 4, 5, 0xC2A9),
    datetime(1800, 1, 1, 0, 0, 0, 0xC2A9),
    timedelta(1, 2, 3),
)
OTHERS = (Decimal("1.5"), UUID(int=5), 1j, range(3))

BY_PYTHON_2 = [
    (
        (
            r"(S\'ascii\'\np1\nS\'caf\\xc3\\xa9\'\np2\nS\'\\xff\\xfe\'\np3\nS\'\'\n"
            r'S"it\'s"\np4\nS\'a\\nb\\\\\'\np5\ntp6\n.'
        ),
        BYTE_STRINGS,
    ),
    (
        (
            r"(U\x05asciiq\x01U\x05caf\xc3\xa9q\x02U\x02\xff\xfeq\x03U\x00U\x04it\'sq\x04"
            r"U\x04a\nb\\q\x05tq\x06."
        ),
        BYTE_STRINGS,
    ),
    (
        (
            r"\x80\x02(U\x05asciiq\x01U\x05caf\xc3\xa9q\x02U\x02\xff\xfeq\x03U\x00U\x04it\'sq\x04"
            r"U\x04a\nb\\q\x05tq\x06."
        ),
        BYTE_STRINGS,
    ),
    (r"(Vcaf\xe9\np1\nV\\u20ac\\u000a\\u005c\np2\nV\\U0001f600\nV\ntp3\n.", UNICODE),
    (
        (
            r"\x80\x02(X\x05\x00\x00\x00caf\xc3\xa9q\x01X\x05\x00\x00\x00\xe2\x82\xac\n\\q\x02"
            r"X\x04\x00\x00\x00\xf0\x9f\x98\x80X\x00\x00\x00\x00tq\x03."
        ),
        UNICODE,
    ),
    (
        (
            r"(I1\nI-1\nI1099511627776\nL1208925819614629174706176L\nL5L\n"
            r"F0.10000000000000001\nF1e+100\nI01\nI00\nNtp1\n."
        ),
        NUMBERS,
    ),
    (
        (
            r"\x80\x02(K\x01J\xff\xff\xff\xffI1099511627776\n\x8a\x0b\x00\x00\x00\x00\x00\x00\x00\x00"
            r"\x00\x00\x01\x8a\x01\x05G?\xb9\x99\x99\x99\x99\x99\x9aGT\xb2I\xad%\x94\xc3}\x88\x89Ntq\x01."
        ),
        NUMBERS,
    ),
    (r"(dp1\nS\'k\'\nS\'v\'\nsI3\nS\'\\xfe\'\nsVu\nI2\nsS\'\\xff\'\nI1\ns.", KEYS),
    (r"\x80\x02}q\x01(U\x01kU\x01vK\x03U\x01\xfeX\x01\x00\x00\x00uK\x02U\x01\xffK\x01u.", KEYS),
    (
        (
            r"(c__builtin__\nset\np1\n((lp2\nS\'a\'\naS\'b\'\natRp3\nc__builtin__\nfrozenset\np4\n"
            r"((lp5\nS\'\\xff\'\natRp6\ntp7\n."
        ),
        SETS,
    ),
    (
        (
            r"\x80\x02c__builtin__\nset\nq\x01]q\x02(U\x01aU\x01be\x85Rq\x03c__builtin__\nfrozenset\n"
            r"q\x04]q\x05U\x01\xffa\x85Rq\x06\x86q\x07."
        ),
        SETS,
    ),
    (
        (
            r"(cdatetime\ndatetime\np1\n(S\'\\x07\\xe4\\x01\\x02\\x03\\x04\\x05\\x00\\x00\\x06\'\ntRp2"
            r"\ncdatetime\ndate\np3\n(S\'\\x07\\xe4\\x01\\x02\'\ntRp4\ncdatetime\ntime\np5\n"
            r"(S\'\\x03\\x04\\x05\\x00\\xc2\\xa9\'\ntRp6\ng1\n"
            r"(S\'\\x07\\x08\\x01\\x01\\x00\\x00\\x00\\x00\\xc2\\xa9\'\ntRp7\n"
            r"cdatetime\ntimedelta\np8\n(I1\nI2\nI3\ntRp9\ntp10\n."
        ),
        MOMENTS,
    ),
    (
        (
            r"\x80\x02(cdatetime\ndatetime\nq\x01U\n\x07\xe4\x01\x02\x03\x04\x05\x00\x00\x06\x85Rq\x02"
            r"cdatetime\ndate\nq\x03U\x04\x07\xe4\x01\x02\x85Rq\x04cdatetime\ntime\nq\x05"
            r"U\x06\x03\x04\x05\x00\xc2\xa9\x85Rq\x06h\x01"
            r"U\n\x07\x08\x01\x01\x00\x00\x00\x00\xc2\xa9\x85Rq\x07"
            r"cdatetime\ntimedelta\nq\x08K\x01K\x02K\x03\x87Rq\ttq\n."
        ),
        MOMENTS,
    ),
    (
        (
            r"(cdecimal\nDecimal\np1\n(S\'1.5\'\ntRp2\nccopy_reg\n_reconstructor\np3\n(cuuid\nUUID\np4"
            r"\nc__builtin__\nobject\np5\nNtRp6\n(dp7\nS\'int\'\np8\nI5\nsbc__builtin__\ncomplex\np9\n"
            r"(F0\nF1\ntRp10\nc__builtin__\nxrange\np11\n(I0\nI3\nI1\ntRp12\ntp13\n."
        ),
        OTHERS,
    ),
    (
        (
            r"\x80\x02(cdecimal\nDecimal\nq\x01U\x031.5\x85Rq\x02cuuid\nUUID\nq\x03)\x81q\x04}q\x05"
            r"U\x03intq\x06K\x05sbc__builtin__\ncomplex\nq\x07G\x00\x00\x00\x00\x00\x00\x00\x00"
            r"G?\xf0\x00\x00\x00\x00\x00\x00\x86Rq\x08c__builtin__\nxrange\nq\tK\x00K\x03K\x01\x87Rq\n"
            r"tq\x0b."
        ),
        OTHERS,
    ),
]

INSTANCES_BY_PYTHON_2 = [
    (Old, r"(ishop_models\nOld\np1\n(dp2\nS\'x\'\nS\'y\'\nsS\'raw\'\np3\nS\'\\xff\'\nsb."),
    (Old, r"(cshop_models\nOld\nq\x01oq\x02}q\x03(U\x01xU\x01yU\x03rawq\x04U\x01\xffub."),
    (Old, r"\x80\x02(cshop_models\nOld\nq\x01oq\x02}q\x03(U\x01xU\x01yU\x03rawq\x04U\x01\xffub."),
    (
        New,
        (
            r"ccopy_reg\n_reconstructor\np1\n(cshop_models\nNew\np2\nc__builtin__\nobject\np3\nNtRp4\n"
            r"(dp5\nS\'x\'\nS\'y\'\nsb."
        ),
    ),
    (New, r"\x80\x02cshop_models\nNew\nq\x01)\x81q\x02}q\x03U\x01xU\x01ysb."),
]


@pytest.mark.parametrize(("text", "value"), BY_PYTHON_2)
def test_value_that_python_2_pickled_is_read_with_its_types(text: str, value: object) -> None:
    read = _classic.loads(text)

    assert read == value
    assert repr(read) == repr(value) or isinstance(value, dict) or value is SETS


@pytest.mark.parametrize(("cls", "text"), INSTANCES_BY_PYTHON_2)
@pytest.mark.usefixtures("shop_models")
def test_instance_that_python_2_pickled_has_its_attributes_under_text(cls: type, text: str) -> None:
    read = _classic.loads(text)

    assert type(read) is cls
    assert read.__dict__ == ({"x": "y", "raw": b"\xff"} if cls is Old else {"x": "y"})


@pytest.mark.parametrize(
    "text",
    [
        r"(S\'z\'\nishop_models\nOldWithArgs\np1\n(dp2\nS\'a\'\nS\'z\'\nsb.",
        r"\x80\x02(cshop_models\nOldWithArgs\nq\x01U\x01zoq\x02}q\x03U\x01aU\x01zsb.",
    ],
)
@pytest.mark.usefixtures("shop_models")
def test_old_style_instance_is_made_with_its_initial_arguments(text: str) -> None:
    read = _classic.loads(text)

    assert read.made_with == "z"


def test_byte_strings_are_text_or_bytes_one_by_one() -> None:
    assert _classic.loads(r"(S\'\\xc3\\xa9\'\nS\'\\xe9\'\nt.") == ("é", b"\xe9")


def test_class_of_the_script_itself_is_read_from_main(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.New = New  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(_names, "is_main", "shop_script".__eq__)

    assert _classic.loads(r"cshop_script\nNew\np1\n.") is New


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a pickle",
        r"(I1\n",
        r"cshop_nowhere\nf\np1\n.",
        r"cjson\nnothing_of_this_name\np1\n.",
        r"csys\nexit\n(tR.",
        r"c__builtin__\nint\n(S\'x\'\ntR.",
        "(" * 10_000 + ".",
    ],
)
def test_what_does_not_unpickle_is_unreadable_with_its_cause(text: str) -> None:
    with pytest.raises(UnreadableItem) as caught:
        _classic.loads(text)

    assert caught.value.__cause__ is not None


def test_interrupt_while_reading_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "interrupt", interrupt, raising=False)

    with pytest.raises(KeyboardInterrupt):
        _classic.loads(r"cjson\ninterrupt\n(tR.")


# --- Writing ----------------------------------------------------------------------------------

# Written by Python 2.7.18 through the functions of the first deferrable, of these arguments.
ARGS_BY_PYTHON_2: list[tuple[tuple[Any, ...], str]] = [
    ((), "(t."),
    ((1, "x"), r"(I1\nS\'x\'\ntp1\n."),
    (("it's", "plain\\"), r"(S" + r'"it\'s"' + r"\np1\nS\'plain\\\\\'\np2\ntp3\n."),
    (("caf\xe9", "€\n\\"), r"(Vcaf\xe9\np1\nV\\u20ac\\u000a\\u005c\np2\ntp3\n."),
    (("\t\r\0\x1a'\"",), r"(S\'\\t\\r\\x00\\x1a\\\'" + r'"\'\np1\ntp2\n.'),
    (("😀", ""), r"(V\\U0001f600\nS\'\'\ntp1\n."),
    (
        (0.1, 1.0, -0.0, 1e100, float("inf")),
        r"(F0.10000000000000001\nF1\nF-0\nF1e+100\nFinf\ntp1\n.",
    ),
    (
        (None, True, False, 2**31, -(2**31) - 1, 2**63, 10**20),
        (
            r"(NI01\nI00\nI2147483648\nI-2147483649\nL9223372036854775808L\nL100000000000000000000L\n"
            r"tp1\n."
        ),
    ),
    (
        ((1, 2), [1, 2], {"a": 1}),
        r"((I1\nI2\ntp1\n(lp2\nI1\naI2\na(dp3\nS\'a\'\nI1\nstp4\n.",
    ),
    (((), [], {}), r"((t(lp1\n(dp2\ntp3\n."),
]

IN_PYTHON_2_PRODUCE = """
import cPickle, json, sys

def text(value):
    return cPickle.dumps(value).encode('string_escape')

def fields(function, *args, **kwargs):
    return [text(args), text(sorted(kwargs.items()))]

def later(*args, **kwargs):
    return fields(None, *args, **kwargs)

def native(value):
    # ASCII text becomes the str that a literal is, in lists, too.
    if isinstance(value, list):
        return [native(part) for part in value]
    if isinstance(value, unicode) and all(ord(char) < 128 for char in value):
        return value.encode('ascii')
    return value

def as_dict(pairs):
    return dict((native(key), native(value)) for key, value in pairs)

def read(text):
    return native(json.loads(text, object_pairs_hook=as_dict))

calls = json.load(sys.stdin)
print json.dumps([
    later(*map(read, args), **dict((str(key), read(value)) for key, value in kwargs))
    for args, kwargs in calls
])
"""

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
keys = st.text(st.characters(exclude_categories=["Cs"]))
decoded = st.recursive(
    plain, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8
)
keywords = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
calls = st.tuples(st.lists(decoded, max_size=4), st.dictionaries(keywords, decoded, max_size=2))


def unshared(value: Any) -> Any:
    """Return an equal value in which no two places hold one object, as Python 2's decoder does."""
    if isinstance(value, dict):
        return {unshared(key): unshared(part) for key, part in value.items()}
    if isinstance(value, list):
        return [unshared(part) for part in value]
    return "".join(list(value)) if isinstance(value, str) else value


@pytest.mark.parametrize(("args", "text"), ARGS_BY_PYTHON_2)
def test_plain_arguments_are_written_as_python_2_wrote_them(
    args: tuple[Any, ...], text: str
) -> None:
    assert _classic.dumps(args) == text


def test_keyword_arguments_are_written_as_python_2_wrote_them() -> None:
    kwargs = {"b": 1, "aa": "x", "user_id": [1]}

    text = _classic.dumps_kwargs(kwargs)

    assert text == (
        r"(lp1\n(S\'aa\'\np2\nS\'x\'\ntp3\na(S\'b\'\nI1\ntp4\na"
        r"(S\'user_id\'\np5\n(lp6\nI1\natp7\na."
    )


def test_no_keyword_arguments_are_written_as_python_2_wrote_them() -> None:
    assert _classic.dumps_kwargs({}) == r"(lp1\n."


@requires_python2
@settings(max_examples=50)
@given(st.lists(calls, min_size=1, max_size=3))
def test_any_call_with_decoded_json_is_written_byte_for_byte_as_python_2_would(
    cases: list[tuple[list[Any], dict[str, Any]]],
) -> None:
    written = run_python2(
        IN_PYTHON_2_PRODUCE,
        input=json.dumps(
            [
                ([json.dumps(a) for a in args], [(k, json.dumps(v)) for k, v in kwargs.items()])
                for args, kwargs in cases
            ]
        ),
    )

    ours = [
        [
            _classic.dumps(tuple(unshared(arg) for arg in args)),
            _classic.dumps_kwargs({k: unshared(v) for k, v in kwargs.items()}),
        ]
        for args, kwargs in cases
    ]
    assert ours == json.loads(written)


@requires_python2
@settings(max_examples=3)
@given(st.lists(st.lists(st.text(min_size=1, max_size=3) | st.integers(-5, 2**40), max_size=100)))
@example([[7, -1], [-2, -1, 6], [-1, -2, 14], [0, 8, 16, "", "a"]])
@example([list(range(n)) for n in (5, 6, 21, 22, 85, 86)])
@example([[f"key {n}" for n in range(m)] for m in (5, 6, 21, 22, 85, 86, 300)])
def test_order_of_a_dict_is_the_one_that_python_2_gives_it(cases: list[list[Any]]) -> None:
    source = """
import json, sys
def grown(keys):
    made = {}
    for key in keys:
        made[key] = None
    return list(made), list(set(keys))
print json.dumps([grown(keys) for keys in json.load(sys.stdin)])
"""
    unique = [list(dict.fromkeys(case)) for case in cases]

    orders = json.loads(run_python2(source, input=json.dumps(unique)))

    ours = [[_python2_order.in_python2_order(keys)] * 2 for keys in unique]
    assert ours == orders


@requires_python2
def test_order_of_a_dict_with_tuples_is_the_one_that_python_2_gives_it() -> None:
    keys = [("ab", n, (n,)) for n in range(-20, 20)] + [()]
    source = """
import json, sys
def frozen(key):
    return tuple(map(frozen, key)) if isinstance(key, list) else key
made = {}
for key in json.load(sys.stdin):
    made[frozen(key)] = None
print json.dumps(list(made))
"""

    order = json.loads(run_python2(source, input=json.dumps(keys)))

    assert json.loads(json.dumps(_python2_order.in_python2_order(keys))) == order


@pytest.mark.parametrize("keys", [["b", "a"], [2, 1], [(1, "b"), (1, "a")], [b"b", b"a"]])
def test_equal_dicts_and_sets_are_written_equally_whatever_their_order(keys: list[Any]) -> None:
    there, back = dict.fromkeys(keys), dict.fromkeys(reversed(keys))

    assert _classic.dumps(there) == _classic.dumps(back)
    assert _classic.dumps(set(there)) == _classic.dumps(set(back))


def test_set_of_values_with_no_known_order_is_sorted() -> None:
    text = _classic.dumps({2.5, None, 1.5, 0.5, -7.25})

    assert text == (r"c__builtin__\nset\np1\n((lp2\nNaF-7.25\naF0.5\naF1.5\naF2.5\natRp3\n.")


def test_dict_whose_order_matters_keeps_it() -> None:
    ordered = OrderedDict([("b", 1), ("a", 2), ("zoo", 3)])

    assert list(_classic.loads(_classic.dumps(ordered))) == ["b", "a", "zoo"]


def test_text_used_twice_is_written_once() -> None:
    word = "".join(["wo", "rd"])

    assert _classic.dumps((word, word)) == r"(S\'word\'\np1\ng1\ntp2\n."


def test_frozenset_that_reaches_itself_survives() -> None:
    holder = Old()
    holder.reached = frozenset([holder])  # type: ignore[attr-defined]

    read = _classic.loads(_classic.dumps(holder.reached))  # type: ignore[attr-defined]

    (inner,) = read
    assert inner.reached is read


values = st.recursive(
    plain
    | st.binary()
    | st.text()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.binary() | st.integers(), inner)
    ),
)


@given(values)
def test_any_value_is_read_back_as_it_was(value: object) -> None:
    read = _classic.loads(_classic.dumps(value))

    assert read == value
    assert type(read) is type(value)


@given(st.sets(st.text() | st.binary() | st.integers() | st.floats(allow_nan=False) | st.none()))
def test_any_set_is_read_back_as_it_was(value: set[object]) -> None:
    assert _classic.loads(_classic.dumps(value)) == value
    assert _classic.loads(_classic.dumps(frozenset(value))) == frozenset(value)


@requires_python2
def test_what_is_written_here_is_read_by_python_2_with_its_types() -> None:
    written = (
        1, 2**70, 0.5, None, True, "caf\xe9", "plain", b"\xff\x00", b"", b"plain",
        [1, [2]], {"k": (1,)}, {1}, frozenset(["x"]), Decimal("1.5"), UUID(int=5),
        datetime(2020, 1, 2, 3, 4, 5, 6), date(2020, 1, 2), time(3, 4), timedelta(1),
        range(3), 1j, ValueError("x"),
    )  # fmt: skip
    source = """
import pickle, cPickle, sys
text = sys.stdin.read().decode('string_escape')
assert repr(pickle.loads(text)) == repr(cPickle.loads(text))
print repr(cPickle.loads(text))
"""

    read = run_python2(source, input=_classic.dumps(written))

    assert read == (
        r"(1, 1180591620717411303424L, 0.5, None, True, u'caf\xe9', 'plain', '\xff\x00', '', "
        r"'plain', [1, [2]], {'k': (1,)}, set([1]), frozenset(['x']), Decimal('1.5'), "
        r"UUID('00000000-0000-0000-0000-000000000005'), "
        r"datetime.datetime(2020, 1, 2, 3, 4, 5, 6), datetime.date(2020, 1, 2), "
        r"datetime.time(3, 4), datetime.timedelta(1), xrange(3), 1j, ValueError('x',))"
        "\n"
    )


SHOP = """
class Order(object):
    def __init__(self, number):
        self.number = number

class Slotted(object):
    __slots__ = ("number",)

def send(*args, **kwargs):
    return args, sorted(kwargs)

class ShopError(Exception):
    pass
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a module that both generations import."""
    (tmp_path / "classic_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "classic_shop", raising=False)
    return str(tmp_path)


@requires_python2
def test_call_written_here_runs_in_python_2(shop: str) -> None:
    import classic_shop

    slotted = classic_shop.Slotted()
    slotted.number = 6
    call = [
        _classic.dump_reference("classic_shop", "send"),
        _classic.dumps((classic_shop.Order(5), slotted, "x")),
        _classic.dumps_kwargs({"key": 1, "a": b"raw"}),
        _classic.dump_error_classes([ValueError, OSError, classic_shop.ShopError]),
    ]
    source = """
import cPickle, json, sys
sys.path.insert(0, sys.argv[1])
method, args, kwargs, errors = [
    cPickle.loads(str(text).decode('string_escape')) for text in json.load(sys.stdin)]
(order, slotted, word), keys = method(*args, **dict(kwargs))
print type(order).__name__, order.number, slotted.number, repr(word), keys
print [error.__name__ for error in errors]
try:
    open('/nowhere/at/all')
except errors:
    print 'IOError is caught'
"""

    ran = run_python2(source, shop, input=json.dumps(call))

    assert ran.splitlines() == [
        "Order 5 6 'x' ['a', 'key']",
        "['ValueError', 'EnvironmentError', 'ShopError']",
        "IOError is caught",
    ]


@requires_python2
def test_call_written_by_python_2_is_read_here(shop: str) -> None:
    source = """
import cPickle, json, sys
sys.path.insert(0, sys.argv[1])
import classic_shop
def text(value):
    return cPickle.dumps(value).encode('string_escape')
print json.dumps([
    text(classic_shop.send), text((classic_shop.Order(5), 'x', '\\xff')),
    text([('key', u'caf\\xe9')]), text((ValueError, IOError, classic_shop.ShopError)),
    text(set([KeyError])),
])
"""

    method, args, kwargs, errors, error_set = json.loads(run_python2(source, shop))

    assert _classic.load_reference(method) == "classic_shop:send"
    assert _classic.load_class_names(errors) == (
        "builtins:ValueError",
        "builtins:OSError",
        "classic_shop:ShopError",
    )
    assert _classic.load_class_names(error_set) == ("builtins:KeyError",)
    assert "classic_shop" not in sys.modules
    order, *words = _classic.loads(args)
    assert (order.number, words) == (5, ["x", b"\xff"])
    assert _classic.loads(kwargs) == [("key", "café")]


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (r"cshop_models\nsend\np1\n.", "shop_models:send"),
        (r"cshop_models\nsend\nq\x01.", "shop_models:send"),
        (r"\x80\x02cshop_models\nsend\nq\x01.", "shop_models:send"),
        (r"cshop.models\nsend\n.", "shop.models:send"),
        (r"cQueue\nQueue\np1\n.", "queue:Queue"),
        (r"curllib2\nurlopen\np1\n.", "urllib.request:urlopen"),
        (r"c__builtin__\nreduce\np1\n.", "functools:reduce"),
    ],
)
def test_reference_that_python_2_pickled_is_read_as_a_name(text: str, name: str) -> None:
    assert _classic.load_reference(text) == name
    assert "shop_models" not in sys.modules


@pytest.mark.parametrize(
    "text",
    [
        "",
        "N.",
        r"S\'send\'\np1\n.",
        r"cos\nsystem\n(S\'true\'\ntR.",
        r"cjson\ndumps\n0cos\nsystem\n.",
        r"cjson\ndumps\np1\n.cos\nsystem\n.",
        r"(ishop_models\nOld\np1\n(dp2\nb.",
        r"cjson\ndu\xffmps\np1\n.",
        "caf\xe9",
    ],
)
def test_anything_but_one_reference_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableItem) as caught:
        _classic.load_reference(text)

    assert caught.value.__cause__ is not None


def test_reference_survives_being_written_and_read() -> None:
    text = _classic.dump_reference("shop.models", "send")

    assert text == r"cshop.models\nsend\np1\n."
    assert _classic.load_reference(text) == "shop.models:send"


@pytest.mark.parametrize(
    ("module", "name"),
    [("shop", "Order.send"), ("shop", "<lambda>"), ("shöp", "send"), ("a-b", "c"), ("", "x")],
)
def test_function_that_python_2_could_not_find_is_refused(module: str, name: str) -> None:
    with pytest.raises(UnserializableCall, match="top level of a module"):
        _classic.dump_reference(module, name)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("N.", ()),
        ("(t.", ()),
        (r"(lp1\n.", ()),
        (
            r"(lp1\ncexceptions\nValueError\np2\nacexceptions\nIOError\np3\nacshop\nError\np4\na.",
            ("builtins:ValueError", "builtins:OSError", "shop:Error"),
        ),
        (
            r"\x80\x02]q\x01(cexceptions\nKeyError\nq\x02cshop\nError\nq\x04e.",
            ("builtins:KeyError", "shop:Error"),
        ),
        (
            r"c__builtin__\nfrozenset\np1\n((lp2\ncexceptions\nKeyError\np3\natRp4\n.",
            ("builtins:KeyError",),
        ),
        (
            r"\x80\x02c__builtin__\nset\nq\x01]q\x02cexceptions\nKeyError\nq\x03a\x85Rq\x04.",
            ("builtins:KeyError",),
        ),
        (r"(dp1\ncexceptions\nKeyError\np2\nI1\ns.", ("builtins:KeyError",)),
        (r"cexceptions\nKeyError\np1\n.", ("builtins:KeyError",)),
        (
            r"((cexceptions\nKeyError\np1\ntp2\ncexceptions\nTypeError\np3\ntp4\n.",
            ("builtins:KeyError", "builtins:TypeError"),
        ),
        (r"(csocket\ntimeout\np1\nt.", ("builtins:TimeoutError",)),
        (r"(cQueue\nEmpty\np1\nt.", ("queue:Empty", "_queue:Empty")),
        (r"(cexceptions\nStandardError\np1\nt.", ("builtins:Exception",)),
    ],
)
def test_error_classes_that_python_2_pickled_are_read_as_names(
    text: str, names: tuple[str, ...]
) -> None:
    assert _classic.load_class_names(text) == names


def test_collection_of_error_classes_that_holds_itself_is_read() -> None:
    assert _classic.load_class_names(r"(lp1\ng1\nacexceptions\nKeyError\na.") == (
        "builtins:KeyError",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(l",
        r"S\'KeyError\'\n.",
        r"(I1\nt.",
        r"(Nt.",
        r"cos\nsystem\n(S\'touch executed\'\ntR.",
        r"(ios\nsystem\n.",
        r"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        r"\x80\x02cshop_models\nNew\n)\x81.",
        r"c__builtin__\nset\n(S\'x\'\ntR.",
        r"c__builtin__\nset\n((lI1\natR.",
        r"c__builtin__\nset\n((ltR(dS\'x\'\nI1\nsb.",
        r"cshop\nError\n(dS\'x\'\nI1\nsb.",
        r"Ppersistent\n.",
        r"\x80\x02\x82\x01.",
        r"N(tR.",
        "(" * 5000 + "t" * 5000 + "I1\n.",
    ],
)
def test_anything_but_error_classes_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableItem) as caught:
        _classic.load_class_names(text)

    assert caught.value.__cause__ is not None


def test_reading_error_classes_imports_and_calls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "classic_trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    names = _classic.load_class_names(r"(cclassic_trap\nError\np1\ntp2\n.")

    assert names == ("classic_trap:Error",)


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        (None, "N."),
        ((), "(t."),
        ([ValueError], r"(cexceptions\nValueError\np1\ntp2\n."),
        ({KeyError: 1}, r"(cexceptions\nKeyError\np1\ntp2\n."),
        ((OSError, OSError), r"(cexceptions\nEnvironmentError\np1\ntp2\n."),
    ],
)
def test_error_classes_are_written_as_references(classes: Any, text: str) -> None:
    assert _classic.dump_error_classes(classes) == text


def test_error_of_the_library_is_written_under_its_name_in_python_2() -> None:
    import queue
    import subprocess
    import urllib.error

    text = _classic.dump_error_classes(
        [queue.Empty, subprocess.CalledProcessError, urllib.error.URLError]
    )

    for reference in (
        r"cQueue\nEmpty\n",
        r"csubprocess\nCalledProcessError\n",
        r"curllib2\nURLError\n",
    ):
        assert reference in text


@pytest.mark.parametrize(
    ("cls", "nearest"),
    [
        (BlockingIOError, "OSError"),
        (ConnectionError, "OSError"),
        (TimeoutError, "OSError"),
        (RecursionError, "RuntimeError"),
        (ModuleNotFoundError, "ImportError"),
        (ExceptionGroup, "Exception"),
        (StopAsyncIteration, "Exception"),
        (json.JSONDecodeError, "ValueError"),
    ],
)
def test_error_class_that_python_2_lacks_is_refused_with_the_nearest_it_has(
    cls: type[BaseException], nearest: str
) -> None:
    with pytest.raises(InvalidOptions, match=rf"{cls.__name__}.*\({nearest} is the nearest\)"):
        _classic.dump_error_classes([ValueError, cls])


def test_error_class_that_stands_inside_another_thing_is_refused() -> None:
    class Local(ValueError): ...

    with pytest.raises(InvalidOptions, match="ValueError is the nearest"):
        _classic.dump_error_classes([Local])


@pytest.mark.parametrize("thing", ["ValueError", ValueError("x"), int, None])
def test_what_is_no_exception_class_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidOptions, match="not an exception class"):
        _classic.dump_error_classes([thing])


@requires_python2
def test_every_error_that_is_written_exists_in_python_2() -> None:
    names = sorted(set(_python2_errors.python2_errors().values()))
    source = """
import cPickle, json, sys
for module, name in json.load(sys.stdin):
    cls = cPickle.loads(str('c%s\\n%s\\n.' % (module, name)))
    assert issubclass(cls, BaseException), cls
    print cPickle.dumps(cls).encode('string_escape')
"""

    run = run_python2(source, input=json.dumps(names))

    assert len(run.splitlines()) == len(names) > 100


class Slotted:
    __slots__ = ("number",)


class Named(NamedTuple):
    number: int


class Words(dict[str, int]):
    """A dict of its own class."""


def test_objects_of_unusual_classes_are_read_back() -> None:
    slotted = Slotted()
    slotted.number = 5

    read = _classic.loads(_classic.dumps((slotted, Named(6), Words(a=7))))

    assert read[0].number == 5
    assert read[1:] == (Named(6), Words(a=7))
    assert [type(part) for part in read] == [Slotted, Named, Words]


def test_moment_with_a_zone_is_read_back() -> None:
    moment = datetime(2020, 1, 2, tzinfo=UTC)

    assert _classic.loads(_classic.dumps(moment)) == moment
