"""Calls become fields and fields become calls; what cannot is refused, by name, with its cause."""

import base64
import contextlib
import functools
import os
import pickle
import subprocess
import sys
import threading
from decimal import Decimal
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable._codec.serializers import (
    DecodedCall,
    Serializer,
    get_serializer,
    serializer_for,
    short_repr,
)
from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall

BOTH = ("pickle", "classic")


@pytest.fixture(params=BOTH)
def serializer(request: pytest.FixtureRequest) -> Serializer:
    return get_serializer(request.param)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A ``__main__`` that nobody can import, holding a class Point and a function measure."""
    module = ModuleType("__main__")
    module.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(
        "class Point:\n"
        "    class Unit: ...\n"
        "    def __eq__(self, other): return type(other) is type(self)\n"
        "def measure(): ...\n",
        module.__dict__,
    )
    return module


class Refuses:
    """Raises on being pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


class RaisesOnceRead:
    def __init__(self, error: type[BaseException] = LookupError) -> None:
        self.error = error

    def __setstate__(self, state: Any) -> None:
        raise state["error"]("the shop has moved")


class RaisesOnRepr:
    def __repr__(self) -> str:
        raise SystemExit("no text")

    def __reduce__(self) -> Any:
        raise TypeError("no pickle")


def pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def item(**changes: Any) -> dict[str, Any]:
    """Return a readable pickle item with some fields changed; None removes one."""
    fields = get_serializer("pickle").dump_call("shop:send", (1,), {"key": 2}) | changes
    return {field: value for field, value in fields.items() if value is not ...}


# --- Choosing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_serializer_is_found_by_its_name(name: str) -> None:
    assert get_serializer(name).name == name


@pytest.mark.parametrize("name", ["yaml", "", None, ["pickle"]])
def test_unknown_serializer_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(InvalidOptions, match="'classic', 'json', 'pickle'"):
        get_serializer(name)


def test_item_without_serializer_is_classic() -> None:
    assert serializer_for({}).name == "classic"
    assert serializer_for({"serializer": None}).name == "classic"


def test_item_names_its_serializer(serializer: Serializer) -> None:
    fields = serializer.dump_call("shop:send", (), {})

    assert serializer_for(fields).name == serializer.name


@pytest.mark.parametrize("name", ["yaml", 5, ["pickle"], {}])
def test_item_of_an_unknown_serializer_is_unreadable(name: Any) -> None:
    with pytest.raises(UnreadableItem, match="'classic', 'json', 'pickle'") as caught:
        serializer_for({"serializer": name})

    assert caught.value.__cause__ is not None


# --- A call there and back --------------------------------------------------------------------

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    plain | st.binary() | st.datetimes() | st.uuids(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("name", BOTH)
@given(
    args=st.lists(values, max_size=4).map(tuple),
    kwargs=st.dictionaries(st.text(), values, max_size=2),
)
def test_any_call_is_read_as_it_was_written(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    serializer = get_serializer(name)

    fields = serializer.dump_call("shop.models:send", args, kwargs)

    assert serializer.load_call(fields) == DecodedCall("shop.models:send", args, kwargs)
    assert serializer.load_name(fields) == "shop.models:send"


@pytest.mark.parametrize("name", BOTH)
@given(value=values)
def test_any_value_is_read_as_it_was_written(name: str, value: object) -> None:
    serializer = get_serializer(name)

    assert serializer.load_value(serializer.dump_value(value)) == value


def test_fields_of_a_pickle_call_are_text_and_name_their_serializer() -> None:
    fields = get_serializer("pickle").dump_call("shop:send", (Decimal(1),), {"a": UUID(int=5)})

    assert set(fields) == {"method", "args", "kwargs", "serializer"}
    assert fields["method"] == "shop:send"
    assert pickle.loads(base64.b64decode(fields["args"])) == (Decimal(1),)
    assert pickle.loads(base64.b64decode(fields["kwargs"])) == {"a": UUID(int=5)}


def test_fields_of_a_classic_call_are_those_of_python_2() -> None:
    fields = get_serializer("classic").dump_call("shop:send", (1,), {"b": 2, "a": "x"})

    assert fields == {
        "method": r"cshop\nsend\np1\n.",
        "args": r"(I1\ntp1\n.",
        "kwargs": r"(lp1\n(S\'a\'\nS\'x\'\ntp2\na(S\'b\'\nI2\ntp3\na.",
    }


def test_pickles_are_of_a_protocol_that_every_supported_python_reads() -> None:
    fields = get_serializer("pickle").dump_call("shop:send", (1,), {})

    assert base64.b64decode(fields["args"])[:2] == b"\x80\x05"


def test_job_with_a_given_name_travels_under_it() -> None:
    fields = get_serializer("pickle").dump_call("send-mail", (), {})

    assert get_serializer("pickle").load_name(fields) == "send-mail"


def test_job_with_a_given_name_is_refused_by_classic() -> None:
    with pytest.raises(UnserializableCall, match="name="):
        get_serializer("classic").dump_call("send-mail", (), {})


def test_method_is_refused_by_classic() -> None:
    with pytest.raises(UnserializableCall, match="top level of a module"):
        get_serializer("classic").dump_call("shop:Order.send", (), {})


def test_classic_kwargs_may_be_a_dict() -> None:
    call = get_serializer("classic").load_call(
        {"method": r"cshop\nsend\np1\n.", "args": "(t.", "kwargs": r"(dp1\nS\'a\'\nI1\ns."}
    )

    assert call == DecodedCall("shop:send", (), {"a": 1})


def test_object_item_gives_the_object_and_the_plain_name_of_its_method() -> None:
    fields = {"object": r"(I1\nI2\nt.", "method": "count", "args": r"(I1\nt.", "kwargs": "(l."}

    call = get_serializer("classic").load_call(fields)

    assert call == DecodedCall("count", (1,), {}, target=(1, 2))
    assert get_serializer("classic").load_name(fields) == "count"


def test_absent_value_is_none(serializer: Serializer) -> None:
    assert serializer.load_value(None) is None


# --- Refusals of a producer -------------------------------------------------------------------


def test_argument_that_cannot_travel_is_named_by_its_position(serializer: Serializer) -> None:
    with pytest.raises(UnserializableCall) as caught:
        serializer.dump_call("shop:send", (1, threading.Lock(), 2), {})

    message = str(caught.value)
    assert "positional argument 2 (args[1]) of shop:send" in message
    assert "_thread.lock" in message
    assert "cannot pickle '_thread.lock' object" in message
    assert "Nothing was pushed; pass plain values" in message
    assert isinstance(caught.value.__cause__, TypeError)


def test_argument_that_cannot_travel_is_named_by_its_keyword(serializer: Serializer) -> None:
    with pytest.raises(UnserializableCall, match="keyword argument 'order' of shop:send"):
        serializer.dump_call("shop:send", (1,), {"a": 1, "order": threading.Lock()})


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), GeneratorExit(), MemoryError()])
def test_whatever_pickling_an_argument_raises_is_a_refusal(
    serializer: Serializer, error: BaseException
) -> None:
    with pytest.raises(UnserializableCall, match=type(error).__name__) as caught:
        serializer.dump_call("shop:send", (Refuses(error),), {})

    assert caught.value.__cause__ is error


def test_interrupt_while_writing_is_not_swallowed(serializer: Serializer) -> None:
    class InterruptedOnce:
        interrupts = [KeyboardInterrupt()]  # noqa: RUF012

        def __reduce__(self) -> Any:
            raise self.interrupts.pop()

    with pytest.raises(KeyboardInterrupt):
        serializer.dump_call("shop:send", (InterruptedOnce(),), {})

    with pytest.raises(KeyboardInterrupt):
        serializer.dump_call("shop:send", (Refuses(KeyboardInterrupt()),), {})

    with pytest.raises(KeyboardInterrupt):
        serializer.dump_value(Refuses(KeyboardInterrupt()))


def test_argument_nested_too_deeply_is_refused(serializer: Serializer) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(UnserializableCall, match="RecursionError"):
        serializer.dump_call("shop:send", (nested,), {})


def test_argument_without_text_of_its_own_is_refused_all_the_same(serializer: Serializer) -> None:
    with pytest.raises(UnserializableCall, match=r"RaisesOnRepr.*no pickle"):
        serializer.dump_call("shop:send", (RaisesOnRepr(),), {})


def test_lambda_and_local_function_are_refused_as_arguments(serializer: Serializer) -> None:
    def local() -> None: ...

    for function in (local, lambda: None):
        with pytest.raises(UnserializableCall, match=r"positional argument 1"):
            serializer.dump_call("shop:send", (function,), {})


def test_value_that_cannot_travel_is_refused(serializer: Serializer) -> None:
    with pytest.raises(UnserializableCall, match=r"lock.*cannot pickle") as caught:
        serializer.dump_value(threading.Lock())

    assert isinstance(caught.value.__cause__, TypeError)


# --- Arguments that live in __main__ ----------------------------------------------------------


@pytest.mark.parametrize("where", ["Point()", "Point", "measure", "Point.Unit", "[{1: Point()}]"])
def test_argument_from_a_main_that_nobody_can_import_is_refused(
    serializer: Serializer, main: ModuleType, where: str
) -> None:
    with pytest.raises(UnserializableCall, match=r"is defined in __main__.*python -m"):
        serializer.dump_call("shop:send", (1, eval(where, main.__dict__)), {})


@pytest.mark.parametrize("where", ["Point()", "Point", "measure", "Point.Unit", "[{1: Point()}]"])
def test_argument_from_main_travels_under_the_name_that_others_import(
    serializer: Serializer, main: ModuleType, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    main.__spec__ = ModuleSpec("shop_main", loader=None)
    fields = serializer.dump_call("shop:send", (eval(where, main.__dict__),), {})
    elsewhere = ModuleType("shop_main")
    for name in ("Point", "measure"):
        setattr(elsewhere, name, getattr(main, name))
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setitem(sys.modules, "shop_main", elsewhere)

    (read,) = serializer.load_call(fields).args

    assert read == eval(where, main.__dict__)


def test_class_that_only_this_process_calls_main_is_found_in_main(
    serializer: Serializer, main: ModuleType
) -> None:
    main.__spec__ = ModuleSpec("shop_main", loader=None)
    fields = serializer.dump_call("shop:send", (main.Point,), {})

    (read,) = serializer.load_call(fields).args

    assert read is main.Point
    assert "shop_main" not in sys.modules


def test_text_that_only_says_main_travels(serializer: Serializer, main: ModuleType) -> None:
    fields = serializer.dump_call("shop:send", ("__main__", "__mp_main__"), {})

    assert serializer.load_call(fields).args == ("__main__", "__mp_main__")


def test_script_sends_its_own_class_to_a_process_that_imports_it_and_back(
    serializer: Serializer, tmp_path: Path
) -> None:
    (tmp_path / "shop_script.py").write_text(
        "import json, sys\n"
        "class Point: ...\n"
        "if __name__ == '__main__':\n"
        "    from deferrable._codec.serializers import get_serializer\n"
        "    serializer = get_serializer(sys.argv[1])\n"
        "    fields = serializer.dump_call('shop_script:run', (Point(),), {})\n"
        "    (read,) = serializer.load_call(fields).args\n"
        "    assert type(read) is Point and 'shop_script' not in sys.modules\n"
        "    print(json.dumps(fields))\n"
    )
    reader = (
        "import json, sys\n"
        "from deferrable._codec.serializers import get_serializer\n"
        "(read,) = get_serializer(sys.argv[1]).load_call(json.load(sys.stdin)).args\n"
        "print(type(read).__module__)\n"
    )
    paths = [str(tmp_path), str(Path(__file__).parents[1])]
    run = functools.partial(
        subprocess.run,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )

    sent = run([sys.executable, str(tmp_path / "shop_script.py"), serializer.name])
    read = run([sys.executable, "-c", reader, serializer.name], input=sent.stdout)

    assert read.stdout == b"shop_script\n"


# --- Refusals of a consumer -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": ...}, "no field 'method'"),
        ({"args": ...}, "no field 'args'"),
        ({"kwargs": ...}, "no field 'kwargs'"),
        ({"method": 5}, "method must hold text, and holds a value of type int"),
        ({"args": 5}, "args must hold text, and holds a value of type int"),
        ({"args": None}, "args must hold text, and holds a value of type NoneType"),
        ({"args": ["a"]}, "args must hold text"),
        ({"args": "!" + pickled((1,))}, "args cannot be unpickled"),
        ({"args": "not base64!"}, "args cannot be unpickled"),
        ({"args": "é"}, "args cannot be unpickled"),
        ({"args": ""}, "args cannot be unpickled: EOFError"),
        ({"args": "AAAA"}, "args cannot be unpickled"),
        ({"args": pickled(5)}, "args must hold a tuple, and holds a value of type int"),
        ({"args": pickled([1])}, "args must hold a tuple"),
        ({"kwargs": pickled([("a", 1)])}, "kwargs must hold a dict"),
        (
            {"kwargs": pickled({5: 1})},
            "kwargs must hold text for each keyword, and holds a value of type int",
        ),
        ({"kwargs": {}}, "kwargs must hold text"),
    ],
)
def test_broken_pickle_item_is_unreadable_and_says_what_was_wrong(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnreadableItem) as caught:
        get_serializer("pickle").load_call(item(**changes))

    assert message in str(caught.value)
    assert caught.value.__cause__ is not None


CLASSIC = {"method": r"cshop\nsend\np1\n.", "args": "(t.", "kwargs": "(l."}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "send"}, "does not name one function"),
        ({"method": None}, "method must hold text, and holds a value of type NoneType"),
        ({"args": "N."}, "args must hold a tuple, and holds a value of type NoneType"),
        ({"args": "(t"}, "args cannot be read"),
        ({"args": 5}, "args must hold text"),
        (
            {"kwargs": "I5\\n."},
            "kwargs hold a value of type int, neither a list of pairs nor a dict",
        ),
        ({"kwargs": r"(lI1\na."}, "neither a list of pairs nor a dict"),
        ({"kwargs": r"(dS\'\\xff\'\nI1\ns."}, "kwargs must hold text for each keyword"),
        ({"object": None}, "object must hold text"),
        ({"object": r"cshop_nowhere\nOrder\n."}, "object cannot be read"),
    ],
)
def test_broken_classic_item_is_unreadable_and_says_what_was_wrong(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnreadableItem) as caught:
        get_serializer("classic").load_call(CLASSIC | changes)

    assert message in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("field", ["method", "args", "kwargs"])
def test_classic_item_without_a_field_is_unreadable(field: str) -> None:
    fields = {name: text for name, text in CLASSIC.items() if name != field}

    with pytest.raises(UnreadableItem, match=f"no field '{field}'") as caught:
        get_serializer("classic").load_call(fields)

    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [LookupError, SystemExit, GeneratorExit, RecursionError])
def test_whatever_reading_an_argument_raises_is_the_cause(
    serializer: Serializer, error: type[BaseException]
) -> None:
    fields = serializer.dump_call("shop:send", (RaisesOnceRead(error),), {})

    with pytest.raises(UnreadableItem, match="the shop has moved") as caught:
        serializer.load_call(fields)

    assert isinstance(caught.value.__cause__, error)


def test_interrupt_while_reading_is_not_swallowed(serializer: Serializer) -> None:
    fields = serializer.dump_call("shop:send", (RaisesOnceRead(KeyboardInterrupt),), {})

    with pytest.raises(KeyboardInterrupt):
        serializer.load_call(fields)


def test_argument_of_a_module_that_is_gone_is_unreadable(
    serializer: Serializer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("shop_gone")
    exec("class Order: ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "shop_gone", module)
    fields = serializer.dump_call("shop:send", (module.Order(),), {})
    monkeypatch.delitem(sys.modules, "shop_gone")

    with pytest.raises(UnreadableItem, match="shop_gone") as caught:
        serializer.load_call(fields)

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_any_text_as_a_value_is_read_or_unreadable(text: str) -> None:
    for name in BOTH:
        with contextlib.suppress(UnreadableItem):
            get_serializer(name).load_value(text)


def test_name_is_read_without_decoding_an_argument(serializer: Serializer) -> None:
    fields = serializer.dump_call("shop:send", (), {}) | {"args": "broken", "kwargs": None}

    assert serializer.load_name(fields) == "shop:send"


# --- Error classes ----------------------------------------------------------------------------


def test_pickle_records_error_classes_by_name_and_keeps_python_2_away() -> None:
    fields = get_serializer("pickle").dump_error_classes([ValueError, UnreadableItem, ValueError])

    assert fields == {
        "error_classes": None,
        "retry_on": ["builtins:ValueError", "deferrable.errors:UnreadableItem"],
    }


def test_classic_records_error_classes_as_python_2_did() -> None:
    fields = get_serializer("classic").dump_error_classes((ValueError,))

    assert fields == {"error_classes": r"(cexceptions\nValueError\np1\ntp2\n."}


def test_recorded_error_classes_are_read_as_names(serializer: Serializer) -> None:
    fields = serializer.dump_error_classes(error for error in (ValueError, OSError))

    assert serializer.load_retry_names(fields) == {"builtins:ValueError", "builtins:OSError"}


@pytest.mark.parametrize("classes", [None, ()])
def test_no_error_classes_are_no_names(serializer: Serializer, classes: Any) -> None:
    fields = serializer.dump_error_classes(classes)

    assert serializer.load_retry_names(fields) == frozenset()


def test_item_that_says_nothing_of_errors_retries_none(serializer: Serializer) -> None:
    assert serializer.load_retry_names({}) == frozenset()


@pytest.mark.parametrize("thing", ["ValueError", int, None, ValueError("x")])
def test_what_is_no_error_class_is_refused(serializer: Serializer, thing: Any) -> None:
    with pytest.raises(InvalidOptions, match="not an exception class"):
        serializer.dump_error_classes([thing])


@pytest.mark.parametrize("names", ["builtins:ValueError", 5, [5], {"a": 1}])
def test_retry_on_that_is_no_list_of_names_is_unreadable(names: Any) -> None:
    with pytest.raises(UnreadableItem, match="retry_on") as caught:
        get_serializer("pickle").load_retry_names({"retry_on": names})

    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("text", [5, "", r"(I1\nt."])
def test_classic_error_classes_that_are_none_are_unreadable(text: Any) -> None:
    with pytest.raises(UnreadableItem) as caught:
        get_serializer("classic").load_retry_names({"error_classes": text})

    assert caught.value.__cause__ is not None


# --- Words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, 1, "x" * 10_000, [[]] * 10_000, {n: n for n in range(10_000)}, 10**4000]
)
def test_short_repr_is_short(value: object) -> None:
    assert 0 < len(short_repr(value)) <= 120


def test_short_repr_of_a_small_value_is_its_repr() -> None:
    assert short_repr({"a": [1, "x"]}) == "{'a': [1, 'x']}"


def test_short_repr_is_one_line_that_can_be_encoded() -> None:
    class Loud:
        def __repr__(self) -> str:
            return "one\ntwo\r\n\ud800"

    text = short_repr(Loud())

    assert text == "one two \\ud800"


def test_short_repr_never_raises() -> None:
    assert "RaisesOnRepr" in short_repr(RaisesOnRepr())
    assert short_repr(10**5000)
