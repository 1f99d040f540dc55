"""Outside code reads and writes items through the five functions it always had."""

import datetime
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from python2 import requires_python2, run_python2

from deferrable import pickling
from deferrable._codec.serializers import get_serializer
from deferrable.errors import UnreadableItem, UnserializableCall


def send(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


class Order:
    def __init__(self, number: int) -> None:
        self.number = number

    def total(self, factor: int) -> int:
        return self.number * factor


def item_of(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return get_serializer(name).dump_call(f"{__name__}:send", args, kwargs)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that fails the test on being imported."""
    (tmp_path / "pickling_trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return "pickling_trap"


@pytest.mark.parametrize("name", ["pickle", "classic"])
def test_strings_of_both_serializers_are_read(name: str) -> None:
    item = item_of(name, 1, "é", key=b"\xff")

    assert pickling.loads(item["args"]) == (1, "é")
    assert dict(pickling.loads(item["kwargs"])) == {"key": b"\xff"}


def test_nothing_is_read_as_none() -> None:
    assert pickling.loads(None) is None


def test_bytes_are_read_like_text() -> None:
    assert pickling.loads(b"(I1\\nt.") == (1,)


@pytest.mark.parametrize("string", ["", "x", "x.", "gAU=", b"\xff", b"\xff."])
def test_string_that_is_no_pickle_is_unreadable(string: Any) -> None:
    with pytest.raises(UnreadableItem):
        pickling.loads(string)


def test_object_is_written_as_the_first_deferrable_did() -> None:
    assert pickling.dumps((1, "x")) == r"(I1\nS\'x\'\ntp1\n."


def test_object_that_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(UnserializableCall):
        pickling.dumps(lambda: None)


def test_later_item_holds_the_call_as_the_first_deferrable_wrote_it() -> None:
    item = pickling.build_later_item(send, 1, method="x", a=2)

    assert item == {
        "method": rf"c{__name__}\nsend\np1\n.",
        "args": r"(I1\ntp1\n.",
        "kwargs": r"(lp1\n(S\'a\'\nI2\ntp2\na(S\'method\'\np3\nS\'x\'\ntp4\na.",
    }


def test_later_item_of_a_function_that_nobody_finds_is_refused() -> None:
    with pytest.raises(UnserializableCall, match="lambda"):
        pickling.build_later_item(lambda: None)


@pytest.mark.parametrize("name", ["pickle", "classic"])
def test_call_is_resolved_to_the_function_it_names(name: str) -> None:
    function, args, kwargs = pickling.unpickle_method_call(item_of(name, 1, key="x"))

    assert function is send
    assert function(*args, **kwargs) == ((1,), {"key": "x"})


def test_call_of_an_object_item_is_resolved_to_its_bound_method() -> None:
    item = {
        "object": pickling.dumps(Order(5)),
        "method": "total",
        "args": pickling.dumps((3,)),
        "kwargs": pickling.dumps({}),
    }

    function, args, kwargs = pickling.unpickle_method_call(item)

    assert function(*args, **kwargs) == 15


def test_method_inside_a_class_is_resolved() -> None:
    item = get_serializer("pickle").dump_call(f"{__name__}:Order.total", (), {})

    assert pickling.unpickle_method_call(item)[0] is Order.total


def test_function_of_the_script_itself_is_found_in_main(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec("shop_main", loader=None)
    main.send = send  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    item = get_serializer("pickle").dump_call("shop_main:send", (), {})

    assert pickling.unpickle_method_call(item)[0] is send


@pytest.mark.parametrize("name", ["send-mail", "shop_nowhere:send", "json:nothing", "json:dumps.x"])
def test_function_that_is_not_there_is_unreadable_with_its_cause(name: str) -> None:
    item = get_serializer("pickle").dump_call(name, (), {})

    with pytest.raises(UnreadableItem) as caught:
        pickling.unpickle_method_call(item)

    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", ["pickle", "classic"])
def test_pretty_text_tells_the_function_its_place_and_the_arguments(name: str) -> None:
    text = pickling.pretty_unpickle(item_of(name, 1, "x", key=datetime.timedelta(1)))

    assert f"'{__name__}:send'" in text
    assert __file__ in text
    assert "(1, 'x')" in text
    assert "<datetime:timedelta" in text


@pytest.mark.parametrize("name", ["pickle", "classic"])
def test_pretty_text_imports_nothing(name: str, trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(trap)
    exec("class Order:\n    def __init__(self): self.number = 5\ndef send(): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, trap, module)
    item = get_serializer(name).dump_call(f"{trap}:send", (module.Order(), module.send), {})
    monkeypatch.delitem(sys.modules, trap)

    text = pickling.pretty_unpickle(item)

    assert trap not in sys.modules
    assert f"{trap}:Order" in text
    assert "{'number': 5}" in text
    assert f"<{trap}:send>" in text


def test_pretty_text_leaves_alone_what_is_named_like_a_module_of_python_2(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("commands")
    exec("class Order: ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "commands", module)

    text = pickling.pretty_unpickle(item_of("pickle", module.Order()))

    assert "commands:Order" in text


def test_pretty_text_calls_nothing() -> None:
    item = {"method": r"cshop\nsend\n.", "args": r"csys\nexit\n(tR.", "kwargs": "(l."}

    assert "<sys:exit" in pickling.pretty_unpickle(item)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"method": 5, "args": [], "kwargs": None},
        {"method": "x", "args": "x", "kwargs": "x."},
        {"method": "", "args": "", "kwargs": "", "serializer": "pickle"},
        {"method": ":", "args": "(", "kwargs": "(.", "serializer": "pickle"},
        {"method": "json:", "args": "é", "kwargs": "é.", "serializer": "pickle"},
        {"serializer": ["yaml"]},
        {"args": "(" * 50_000 + "t" * 50_000 + "."},
        {"args": r"(lp1\ng1\na."},
        None,
        [],
    ],
)
def test_pretty_text_of_an_unreadable_item_is_text(item: Any) -> None:
    assert isinstance(pickling.pretty_unpickle(item), str)


def test_pretty_text_of_a_long_call_is_bounded() -> None:
    assert (
        len(pickling.pretty_unpickle(item_of("pickle", "x" * 100_000, y=list(range(9999))))) < 3000
    )


@requires_python2
def test_later_item_is_run_by_the_old_consumer_s_own_steps(tmp_path: Path) -> None:
    (tmp_path / f"{__name__}.py").write_text("def send(*args, **kwargs): return args, kwargs\n")
    item = pickling.build_later_item(send, 1, "x", key=[b"\xff"])
    source = """
import cPickle, json, sys
sys.path.insert(0, sys.argv[1])
item = json.load(sys.stdin)
call = dict((k, cPickle.loads(v.decode('string_escape'))) for k, v in item.items())
print call['method'](*call['args'], **dict(call['kwargs']))
"""

    ran = run_python2(source, str(tmp_path), input=json.dumps(item))

    assert ran == "((1, 'x'), {'key': ['\\xff']})\n"
