"""How functions and classes are named on the wire, and when they cannot be found by it."""

import functools
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from deferrable._codec import names as _names


def module_level() -> None:
    """Something that every process finds."""


class Outer:
    class Inner:
        def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


class Job:
    """Stands for the object that wraps a function in its module."""

    def __init__(self, function: object) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A ``__main__`` that nobody can import, as in a shell."""
    module = ModuleType("__main__")
    module.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def defined_in_main(main: ModuleType, source: str, name: str) -> object:
    exec(source, main.__dict__)
    return main.__dict__[name]


def run_as_script(directory: Path, monkeypatch: pytest.MonkeyPatch, main: ModuleType) -> None:
    script = directory / "shop_script.py"
    script.write_text("raise SystemExit('imported a second time')")
    main.__file__ = str(script)
    monkeypatch.syspath_prepend(directory)


def test_function_is_named_by_module_and_qualname() -> None:
    assert _names.name_of(module_level) == f"{__name__}:module_level"
    assert _names.name_of(Outer.Inner.method) == f"{__name__}:Outer.Inner.method"


def test_instance_is_named_after_its_class() -> None:
    assert _names.name_of(Outer()) == f"{__name__}:Outer"


def test_main_started_with_dash_m_has_the_name_in_its_spec(main: ModuleType) -> None:
    main.__spec__ = ModuleSpec("shop.worker", loader=None)
    function = defined_in_main(main, "def send(): ...", "send")

    name = _names.name_of(function)

    assert name == "shop.worker:send"
    assert _names.why_unfindable(function) is None


def test_script_has_the_name_of_its_file_if_imports_find_that_file(
    main: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as_script(tmp_path, monkeypatch, main)

    assert _names.canonical_main() == "shop_script"
    assert "shop_script" not in sys.modules


def test_script_has_no_name_if_imports_find_another_file(
    main: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as_script(tmp_path, monkeypatch, main)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    main.__file__ = str(elsewhere / "shop_script.py")
    Path(main.__file__).touch()

    assert _names.canonical_main() is None


@pytest.mark.parametrize("name", ["shop-script", "shop_package.script"])
def test_script_whose_file_name_is_no_module_name_has_none(
    main: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "shop_package").mkdir()
    (tmp_path / "shop_package" / "script.py").touch()
    script = tmp_path / f"{name}.py"
    script.touch()
    main.__file__ = str(script)
    monkeypatch.syspath_prepend(tmp_path)

    assert _names.canonical_main() is None
    assert "shop_package" not in sys.modules


@pytest.mark.parametrize("file", [None, "shop-script.py", "/nowhere/shop_nowhere.py", "<stdin>"])
def test_main_that_nobody_can_import_has_no_name(main: ModuleType, file: str | None) -> None:
    if file is not None:
        main.__file__ = file
    function = defined_in_main(main, "def send(): ...", "send")

    assert _names.canonical_main() is None
    assert _names.name_of(function) == "__main__:send"
    assert "__main__" in str(_names.why_unnameable(function))


def test_directory_or_zip_that_is_run_has_no_name(main: ModuleType) -> None:
    main.__spec__ = ModuleSpec("__main__", loader=None)
    main.__file__ = "/somewhere/app.zip/__main__.py"

    assert _names.canonical_main() is None


def test_script_run_by_python_is_named_as_other_processes_import_it(tmp_path: Path) -> None:
    script = tmp_path / "shop_jobs.py"
    script.write_text(
        "from deferrable._codec import names as _names\n"
        "def send(): ...\n"
        "if __name__ == '__main__': print(_names.name_of(send), _names.why_unfindable(send))\n"
    )

    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONPATH": str(Path(_names.__file__).parents[2])},
        check=True,
    )

    assert done.stdout == "shop_jobs:send None\n"


def test_main_is_recognised_under_every_name_it_has(
    main: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as_script(tmp_path, monkeypatch, main)

    recognised = [
        name for name in ("__main__", "__mp_main__", "shop_script") if _names.is_main(name)
    ]

    assert recognised == ["__main__", "__mp_main__", "shop_script"]
    assert not _names.is_main("shop_script.part")
    assert not _names.is_main("json")


def test_script_that_imports_do_not_find_is_not_recognised_by_its_file(main: ModuleType) -> None:
    main.__file__ = "/nowhere/json.py"

    assert not _names.is_main("json")


def test_lambda_is_unnameable() -> None:
    assert "it is a lambda" in str(_names.why_unnameable(eval("lambda: None")))


def test_function_inside_a_function_is_unnameable_and_the_outer_one_is_told() -> None:
    def local() -> None: ...

    assert "test_function_inside_a_function" in str(_names.why_unnameable(local))


def test_partial_is_unnameable() -> None:
    assert "partial" in str(_names.why_unnameable(functools.partial(module_level)))


@pytest.mark.parametrize(
    "obj", [module_level, Outer, Outer.Inner, Outer.Inner.method, Outer.static, ValueError, len]
)
def test_what_its_module_holds_is_findable(obj: object) -> None:
    assert _names.why_unfindable(obj) is None


def test_function_that_its_module_does_not_hold_yet_is_nameable_but_not_findable() -> None:
    namespace = {"__name__": __name__}
    exec("def not_bound_yet(): ...", namespace)
    function = namespace["not_bound_yet"]

    assert _names.why_unnameable(function) is None
    assert "has nothing" in str(_names.why_unfindable(function))


def test_function_whose_name_holds_something_else_is_not_findable() -> None:
    namespace = {"__name__": __name__}
    exec("def module_level(): ...", namespace)

    assert "something else" in str(_names.why_unfindable(namespace["module_level"]))


def test_function_of_a_module_that_is_not_loaded_is_not_findable() -> None:
    namespace = {"__name__": "shop_not_loaded"}
    exec("def send(): ...", namespace)

    assert "not loaded" in str(_names.why_unfindable(namespace["send"]))


def test_function_is_findable_where_its_module_holds_the_job_that_was_made_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = module_level
    job = Job(function)
    monkeypatch.setitem(globals(), "module_level", job)

    assert _names.why_unfindable(function, expected=job) is None
    assert _names.why_unfindable(job) is None


def test_method_is_findable_where_its_class_holds_a_job_that_binds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class BindingJob:
        def __get__(self, instance: object, owner: type) -> object:
            return functools.partial(Outer.Inner, instance)

    function, job = Outer.Inner.method, BindingJob()
    monkeypatch.setattr(Outer.Inner, "method", job)

    assert _names.why_unfindable(function, expected=job) is None
    assert _names.why_unfindable(function) is not None


def test_function_of_a_child_of_multiprocessing_is_looked_up_in_main(main: ModuleType) -> None:
    main.__spec__ = ModuleSpec("shop.worker", loader=None)
    main.__name__ = "__mp_main__"
    function = defined_in_main(main, "def send(): ...", "send")

    assert _names.name_of(function) == "shop.worker:send"
    assert _names.why_unfindable(function) is None


def test_job_is_findable_below_another_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    function = module_level
    job = Job(function)
    monkeypatch.setitem(globals(), "module_level", Job(job))

    assert _names.why_unfindable(function, expected=job) is None


def test_wrappers_that_wrap_each_other_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Job(module_level), Job(module_level)
    one.__wrapped__, other.__wrapped__ = other, one  # type: ignore[attr-defined]
    function = module_level
    monkeypatch.setitem(globals(), "module_level", one)

    assert _names.why_unfindable(function) is not None


def test_error_answers_to_the_names_of_all_its_classes() -> None:
    names = _names.class_names(ConnectionResetError())

    assert {"builtins:ConnectionResetError", "builtins:OSError", "builtins:Exception"} <= names
    assert "builtins:ValueError" not in names


def test_nested_error_class_answers_to_the_short_name_that_python_2_recorded() -> None:
    error = type("Error", (Exception,), {"__qualname__": "Outer.Error", "__module__": "shop"})

    names = _names.class_names(error())

    assert {"shop:Outer.Error", "shop:Error"} <= names


def test_error_class_of_main_answers_to_both_of_its_names(main: ModuleType) -> None:
    main.__spec__ = ModuleSpec("shop.worker", loader=None)
    cls = defined_in_main(main, "class Error(Exception): ...", "Error")
    assert isinstance(cls, type)

    names = _names.class_names(cls())

    assert {"__main__:Error", "shop.worker:Error"} <= names
