"""What becomes of every kind of value at the moment of the call, and what it costs."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import gc
import hashlib
import importlib
import itertools
import json
import math
import pathlib
import socket
import sys
import threading
import types
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootspan.description import valid
from rootspan.freeze import freeze, identifier, keep, thaw, weight
from rootspan.record import Chat

LIMIT = 100_000
NAMES = f"{__name__}."
UNREADABLE = " (unreadable)"
COPIES = (dict, list, Chat)


def kept(value: Any, limit: int = LIMIT) -> Any:
    """What `freeze` keeps of a value; what it keeps is immutable and can be written as UTF-8 JSON."""
    frozen = freeze(value, limit)
    assert frozen is None or type(frozen) in (str, bytes, int, float, bool)
    if type(frozen) is bytes:
        json.loads(frozen.decode())
    return thaw(frozen)


class Buffer(bytearray):
    def __index__(self) -> int:  # of which `bytes` makes as many zeros
        return 10**12

    def __len__(self) -> int:
        return 3


class Text(str):
    __slots__ = ()

    def __str__(self) -> NoReturn:
        raise SystemExit(1)

    __len__ = __format__ = __repr__ = __str__  # type: ignore[assignment]


class Whole(int):
    def __index__(self) -> NoReturn:
        raise SystemExit(1)

    __repr__ = __str__ = __int__ = __index__  # type: ignore[assignment]


class Real(float):
    def __float__(self) -> NoReturn:
        raise SystemExit(1)

    __repr__ = __str__ = __float__  # type: ignore[assignment]


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Account:
    name: str
    password: str = dataclasses.field(default="hunter2", repr=False)
    copied: dataclasses.InitVar[int] = 0


@dataclasses.dataclass
class Broken:
    good: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "good":
            raise ValueError
        return super().__getattribute__(name)


class Plain:
    """An object that says nothing about itself: its `__dict__` is nobody's business."""

    def __init__(self) -> None:
        self.secret = "hunter2"


class Slotted:
    __slots__ = ("secret",)
    _meta = None

    def __repr__(self) -> str:
        return "Slotted!"


class Long:
    def __repr__(self) -> str:
        return "r" * 5_000


class TextRepr:
    def __repr__(self) -> str:
        return Text("mine")


class Method:
    def method(self) -> None: ...


NOON = datetime.datetime(2024, 2, 3, 12, 0, 1, 5)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (2**63, str(2**63)),
    (2**64, "18446744073709551616"),
    (10**6000, "<int of 19932 bits>"),
    ([2**64], ["18446744073709551616"]),
    ({"a": 10**6000, "b": 1}, {"a": "<int of 19932 bits>", "b": 1}),
    (1.5, 1.5),
    ([math.nan, math.inf, -math.inf, 1.5], ["NaN", "Infinity", "-Infinity", 1.5]),
    ("", ""),
    ("ünï\0", "ünï\0"),
    (["\ud800", "\ud83d\ude00"], ["\ufffd", "\U0001f600"]),
    ({"\udcff": 1}, {"\ufffd": 1}),
    (Text("text"), "text"),
    ([Text("text"), Whole(5), Whole(2**70), Real(2.5), Real("nan")], ["text", 5, str(2**70), 2.5, "NaN"]),
    ({Text("key"): 1}, {"key": 1}),
    (Whole(5), 5),
    (Real(2.5), 2.5),
    (Real("-inf"), "-Infinity"),
    (b"text \n", "text \n"),
    (b"", ""),
    (b"\xff\x00", f"<2 bytes, sha256 {hashlib.sha256(bytes([255, 0])).hexdigest()[:16]}>"),
    (b"\0", "<1 bytes, sha256 6e340b9cffb37a98>"),
    (bytearray(b"text"), "text"),
    (memoryview(b"texts")[::2], "txs"),
    (Buffer(b"text"), "text"),
    (bytes(70_000), "<70000 bytes>"),
    (memoryview(bytes(80_000)).cast("q"), "<80000 bytes>"),
    (decimal.Decimal("0.10"), "0.10"),
    (fractions.Fraction(1, 3), "1/3"),
    (1 + 2j, "(1+2j)"),
    (ID, str(ID)),
    ([ID], [str(ID)]),
    (NOON, "2024-02-03T12:00:01.000005"),
    ([NOON], ["2024-02-03T12:00:01.000005"]),
    ([NOON.replace(tzinfo=datetime.timezone.utc)], ["2024-02-03T12:00:01.000005+00:00"]),
    ([NOON.date(), NOON.time()], ["2024-02-03", "12:00:01.000005"]),
    (datetime.timedelta(1, 2), "1 day, 0:00:02"),
    (pathlib.PurePosixPath("a/b"), "a/b"),
    (Colour.RED, "red"),
    ({"c": Colour.PAIR}, {"c": [1, 2]}),
    (Level.HIGH, 3),
    (Mode.READ | Mode.WRITE, 3),
    ((1, "a"), [1, "a"]),
    ([(1, ("a",))], [[1, ["a"]]]),
    ({5}, [5]),
    (frozenset("a"), ["a"]),
    (collections.deque([1, [2]]), [1, [2]]),
    (collections.OrderedDict(a={"b": 1}), {"a": {"b": 1}}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (Point(1, {2}), {"x": 1, "y": [2]}),
    ([Point(1, 2)], [{"x": 1, "y": 2}]),
    (Account("ann", "x"), {"name": "ann"}),
    ([Account("ann", "x")], [{"name": "ann"}]),
    (Account, f"<type {NAMES}Account>"),
    (Broken(), {"good": "(unreadable)"}),
    ({1: "a", None: 2, (1, 2): 3, 1.5: 4}, {"1": "a", "null": 2, "[1,2]": 3, "1.5": 4}),
    ({1: "a", "1": "b"}, {"1": "a", "1'": "b"}),
    ({b"k": 1, Colour.RED: 2}, {"k": 1, "red": 2}),
    (ValueError("bad"), "ValueError: bad"),
    (ValueError("b" * 5_000), ("ValueError: " + "b" * 5_000)[:1_000]),
    ([KeyError("k")], ["KeyError: 'k'"]),
    (len, "<built-in function len>"),
    (lambda: 1, f"<function {NAMES}<lambda>>"),
    (Method().method, f"<method {NAMES}Method.method>"),
    (int, "<type builtins.int>"),
    (json, repr(json)),
    (Ellipsis, "Ellipsis"),
    (functools.partial(int, "5"), "functools.partial(<class 'int'>, '5')"),
    (range(3), "<builtins.range>"),
    (object(), "<builtins.object>"),
    (Plain(), f"<{NAMES}Plain>"),
    ([Plain()], [f"<{NAMES}Plain>"]),
    (Slotted(), "Slotted!"),
    (Long(), "r" * 1_000 + "…[cut from 5000 characters]"),
    (TextRepr(), "mine"),
]


@pytest.mark.parametrize("number", range(len(VALUES)), ids=lambda number: type(VALUES[number][0]).__name__)
def test_every_value_becomes_something(number: int) -> None:
    """delivery 11"""
    value, expected = VALUES[number]
    assert kept(value) == expected
    assert type(kept(value)) is type(expected)
    assert kept({"poison": value, "neighbour": [1, "x"]})["neighbour"] == [1, "x"]
    assert kept([1, value, "x"])[0::2] == [1, "x"]


def test_another_thread_may_change_the_size_of_bytes_at_any_moment() -> None:
    """delivery 12; while there is a view of them, that is a BufferError in the host"""
    values = [bytearray(b"text"), Buffer(b"text"), bytearray(b"\0"), bytearray(70_000)]
    moments = 0

    def elsewhere(frame: Any, event: str, argument: Any) -> Any:
        nonlocal moments
        moments += 1
        for value in values:
            value.append(0)
            value.pop()
        return elsewhere

    before = sys.gettrace()
    sys.settrace(elsewhere)
    try:
        found = [freeze(value, LIMIT) for value in values]
    finally:
        sys.settrace(before)
    assert found[0] == found[1] == "text"
    assert moments > 20


def test_a_scalar_of_its_own_type_is_the_same_object() -> None:
    """delivery 11"""
    text = "x" * 100
    assert freeze(text, LIMIT) is text
    assert freeze("\ud800", LIMIT) == "\ud800"
    assert freeze(0.5, LIMIT) == 0.5


@pytest.mark.parametrize(("number", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_a_number_that_json_cannot_write_is_readable_by_itself_too(number: float, text: str) -> None:
    """delivery 11"""
    assert freeze(number, LIMIT) == text
    assert kept([number]) == [text]


def test_a_socket_and_a_module_keep_working() -> None:
    """delivery 11"""
    with socket.socket() as plug:
        assert kept(plug).startswith("<socket.socket fd=")
        assert kept({"s": plug, "m": sys})["m"] == repr(sys)
        assert plug.fileno() > 0


@pytest.mark.parametrize("cycle", ["list", "dict", "deep", "own key"])
def test_a_cycle_is_marked(cycle: str) -> None:
    """delivery 11"""
    if cycle == "list":
        items: list[Any] = [1]
        items.append(items)
        assert kept(items) == [1, "…[cycle]"]
    elif cycle == "dict":
        fields: dict[str, Any] = {"a": 1}
        fields["self"] = fields
        assert kept(fields) == {"a": 1, "self": "…[cycle]"}
    elif cycle == "deep":
        inner: list[Any] = []
        outer = {"inner": inner}
        inner.append((outer, 5))
        assert kept(outer) == {"inner": [["…[cycle]", 5]]}
    else:
        account = Account("ann")
        account.name = account  # type: ignore[assignment]
        assert kept(account) == {"name": "…[cycle]"}


def test_what_occurs_twice_is_no_cycle() -> None:
    """delivery 11"""
    shared = [{1}]
    assert kept({"a": shared, "b": shared}) == {"a": [[1]], "b": [[1]]}


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_ten_thousand_levels_are_cut(kind: Any) -> None:
    """delivery 11"""
    value: Any = "deep"
    for _ in range(10_000):
        value = {"a": value} if kind is dict else kind([value])
    out = kept({"deep": value, "b": 1})
    assert out["b"] == 1
    depth, inner = 0, out["deep"]
    while not isinstance(inner, str):
        inner = inner["a"] if kind is dict else inner[0]
        depth += 1
    assert inner == "…[cut: nested too deep]"
    assert depth == 100


def raising(error: BaseException) -> list[Any]:
    """Objects of which nearly everything raises."""

    def fail(*_: object) -> Any:
        raise error

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise error

    names = [
        "__repr__",
        "__str__",
        "__iter__",
        "__len__",
        "__getattribute__",
        "__hash__",
        "__eq__",
        "__bool__",
        "items",
    ]
    body = dict.fromkeys(names, fail)
    made: list[Any] = [Meta("Odd", (), {})(), type("Odd", (), {"__repr__": fail})(), type("Odd", (), body)()]
    for base in (dict, list, set, tuple, str, int, float, ValueError, decimal.Decimal, datetime.datetime, bytes):
        arguments = (2024, 2, 3) if base is datetime.datetime else (1,) if base in (int, float, decimal.Decimal) else ()
        made.append(type("Odd", (base,), {**body, "isoformat": fail})(*arguments))
    return made


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), RecursionError(), GeneratorExit(), MemoryError()])
def test_what_its_own_methods_raise_stays_inside(error: BaseException) -> None:
    """delivery 10, delivery 11"""
    values = raising(error)
    for value in values:
        assert kept({"value": value, "b": 1})["b"] == 1
        assert kept([value, "x"])[1] == "x"
        assert kept(value) is not None
        assert identifier(value) is None or issubclass(type(value), (str, int))
    assert kept(values[1]) == f"<{NAMES}Odd>{UNREADABLE}"
    assert kept(values[0]).endswith(f"Odd>{UNREADABLE}")


@pytest.mark.parametrize("nested", [False, True])
def test_a_keyboard_interrupt_passes(nested: bool) -> None:
    """delivery 10"""
    value = raising(KeyboardInterrupt())[1]
    with pytest.raises(KeyboardInterrupt):
        freeze({"a": [value]} if nested else value, LIMIT)


def test_a_name_that_is_no_unicode_becomes_something() -> None:
    """delivery 11"""
    odd = type("Odd", (), {"__module__": "a\ud800", "__iter__": None})
    assert kept([odd()]) == ["<a\ufffd.Odd>"]
    assert kept(type("Odd", (), {"__module__": 5, "__iter__": None})()) == "<Odd>"


async def nothing() -> None: ...


async def numbers() -> Any:
    yield 1


def test_nothing_lazy_is_consumed() -> None:
    """delivery 11: generators are never consumed"""
    items = iter([1, 2])
    made = (number for number in items)
    for lazy in (made, items, map(str, made), filter(None, made), zip(made), enumerate(made), reversed([1])):
        assert kept(lazy).startswith("<")
        assert kept({"lazy": [lazy]})["lazy"][0] == kept(lazy)
    assert list(made) == [1, 2]
    stream = numbers()
    assert kept(stream) == "<builtins.async_generator>"
    coroutine = nothing()
    assert kept([coroutine]) == ["<builtins.coroutine>"]
    asyncio.run(coroutine)
    with open(__file__, encoding="utf-8") as file:
        assert kept(file) == "<_io.TextIOWrapper>"
        assert file.tell() == 0


class QuerySet:
    """As Django's: its text, its length and its truth run the query."""

    queries = 0

    def _fetch(self, *_: object) -> Any:
        QuerySet.queries += 1
        return iter(())

    __iter__ = __len__ = __bool__ = __repr__ = __str__ = __getitem__ = __eq__ = __reduce__ = _fetch  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Lazy:
    """As Django's SimpleLazyObject and werkzeug's LocalProxy: whatever is asked, `__class__` too, evaluates it."""

    evaluated = 0

    def _evaluate(self, *_: object) -> Any:
        Lazy.evaluated += 1
        return "user"

    __class__ = property(lambda self: type(self._evaluate()))  # type: ignore[assignment]
    __str__ = __repr__ = __iter__ = __len__ = __bool__ = __getattr__ = _evaluate


def test_a_lazy_object_is_not_evaluated() -> None:
    """delivery 11: a Django QuerySet is never evaluated"""
    for value, name in ((QuerySet(), "QuerySet"), (Lazy(), "Lazy")):
        assert kept(value) == f"<{NAMES}{name}>"
        assert kept({"a": [value]}) == {"a": [f"<{NAMES}{name}>"]}
        assert identifier(value) is None
    assert QuerySet.queries == 0
    assert Lazy.evaluated == 0


def test_django_itself_is_not_asked() -> None:
    """delivery 11"""
    pytest.importorskip("django", reason="Django's own lazy objects need Django")
    from django.utils.functional import SimpleLazyObject

    asked: list[int] = []
    user = SimpleLazyObject(lambda: asked.append(1))
    assert kept({"user": user})["user"] == "<django.utils.functional.SimpleLazyObject>"
    assert identifier(user) is None
    assert not asked


class Model:
    """As Django's: `_meta` on the class, and a text that may query the database."""

    _meta = types.SimpleNamespace(pk=types.SimpleNamespace(attname="code"))

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)

    def __str__(self) -> NoReturn:
        raise AssertionError("a query")

    __repr__ = __str__


def test_a_django_model_is_its_class_and_its_key() -> None:
    """delivery 11"""
    assert kept(Model(code="x7", secret="hunter2")) == "<Model x7>"
    assert kept(Model()) == "<Model ?>"
    assert kept(type("Other", (Model,), {"_meta": object()})(id=5)) == "<Other 5>"


def test_no_dict_is_walked() -> None:
    """delivery 11: no arbitrary `__dict__` is walked"""
    plain = Plain()
    namespace = json.dumps(kept({"a": plain, "b": [Method(), plain], "c": {plain}}))
    assert "hunter2" not in namespace


def test_pydantic_models_show_what_their_repr_shows() -> None:
    """delivery 11"""
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class Inner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        key: pydantic.SecretStr
        hidden: str = pydantic.Field(default="hunter2", repr=False)

    class Outer(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        inner: Inner
        count: int = 3

    value = Outer(inner=Inner(key="hunter2"))
    assert kept(value) == {"inner": {"key": "SecretStr('**********')"}, "count": 3}
    assert kept([value]) == [kept(value)]
    assert kept(Outer) == f"<ModelMetaclass {NAMES}{Outer.__qualname__}>"
    assert kept(pydantic.SecretBytes(b"hunter2")) == "SecretBytes(b'**********')"


def test_models_of_pydantic_1_do_so_too() -> None:
    """delivery 11"""
    pydantic = pytest.importorskip("pydantic.v1", reason="pydantic is not installed")

    fields = {"key": (pydantic.SecretStr, ...), "hidden": (str, pydantic.Field("hunter2", repr=False))}
    assert kept(pydantic.create_model("Model", **fields)(key="hunter2")) == {"key": "SecretStr('**********')"}


def test_attrs_classes_show_what_their_repr_shows() -> None:
    """delivery 11"""
    attr = pytest.importorskip("attr", reason="attrs is not installed")
    kind = attr.make_class("Kind", {"name": attr.ib(), "password": attr.ib(default="hunter2", repr=False)})
    assert kept(kind("ann")) == {"name": "ann"}
    assert kept({"k": (kind([{1}]),)}) == {"k": [{"name": [[1]]}]}


def test_numpy() -> None:
    """delivery 11"""
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    assert kept(np.float64(1.5)) == 1.5
    assert kept([np.int64(5), np.bool_(True), np.str_("a"), np.float32("nan")]) == [5, True, "a", "NaN"]
    assert kept(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert kept({"a": np.array(7), "o": np.array([{1}, None], dtype=object)}) == {"a": 7, "o": [[1], None]}
    assert kept(np.longdouble("1.5")) == "1.5"
    assert kept(np.datetime64("2024-02-03")) == "2024-02-03"
    assert kept(np.zeros((200, 100), dtype="float32")) == "<numpy.ndarray (200, 100) float32>"
    assert kept(np.dtype("int8")) == "dtype('int8')"
    assert kept({np.int64(1): "key"}) == {"1": "key"}


def test_later_changes_are_invisible() -> None:
    """delivery 11: values are frozen at the call"""
    inner = {"b": [1]}
    value = {"a": inner, "s": {1}}
    for frozen, expected in ((freeze(value, LIMIT), {"a": {"b": [1]}, "s": [1]}), (freeze(inner, LIMIT), {"b": [1]})):
        inner["b"].append(2)
        inner["c"] = []
        assert thaw(frozen) == expected
        inner["b"].pop()
        del inner["c"]


@pytest.mark.parametrize("size", [50, 30_000])
@pytest.mark.parametrize("plain", [True, False])
def test_another_thread_may_change_a_dict_meanwhile(size: int, plain: bool) -> None:
    """delivery 10"""
    value: dict[Any, Any] = {f"k{number}": 1 if plain else {number} for number in range(size)}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            value[f"new{number % 100}"] = number
            value.pop(f"new{(number - 50) % 100}", None)
            number += 1

    def collected(phase: str, info: dict[str, int]) -> None:
        """Lets the other thread run in the middle of a copy that is otherwise one step."""

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(collected)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10 if size > 1_000 else 200):
            out = kept(value)
            assert out["k0"] == (1 if plain else [0])
    finally:
        stop.set()
        thread.join()
        gc.callbacks.remove(collected)
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("number", [None, -5, 1 << 200, 1.5])
def test_a_uuid_that_is_none_costs_only_itself(number: object) -> None:
    """delivery 11; orjson ends the process where one has no number yet"""
    broken = uuid.UUID.__new__(uuid.UUID)
    if number is not None:
        object.__setattr__(broken, "int", number)
    found = kept({"id": broken, "whole": ID, "n": [1]})
    assert (found["whole"], found["n"]) == (str(ID), [1])
    assert isinstance(found["id"], str)


def test_a_dict_that_never_rests_costs_only_itself() -> None:
    """delivery 11"""

    class Restless(collections.UserDict[str, int]):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("changed size during iteration")

    odd = types.MappingProxyType(Restless(a=1))
    assert kept({"odd": odd, "b": {1}}) == {"odd": f"<builtins.mappingproxy>{UNREADABLE}", "b": [1]}


def visited(call: Any) -> int:
    """How many Python and C calls it makes: its work, whatever the machine."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def nested(width: int, levels: int, leaf: Any) -> Any:
    value = leaf
    for _ in range(levels):
        value = [value] * width
    return value


def large() -> Iterator[Any]:
    """Structures of 50 MB or more, exact and foreign, wide and deep."""
    megabyte = "x" * 1_000_000
    yield [megabyte] * 50
    yield {f"k{number}": {"t": megabyte} for number in range(50)}
    yield [(megabyte,)] * 50
    yield {"a": {1}, "b": [megabyte] * 50}
    yield list(range(1_500_000))
    yield {"s": {1}, "n": list(range(1_500_000))}
    yield nested(10, 7, {1})
    yield nested(10, 7, "abcdefg")
    yield nested(2, 90, {"a": 1})
    yield {number: number for number in range(500_000)}
    yield set(range(500_000))
    yield {"x" * 1_000_000 + str(number): 1 for number in range(50)}


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("limit", [1_000, 1_000_000])
def test_fifty_megabytes_cost_bounded_work(number: int, limit: int) -> None:
    """delivery 12: work on the caller is bounded by the cap, not by the payload"""
    value = next(itertools.islice(large(), number, None))
    frozen: list[Any] = []
    calls = visited(lambda: frozen.append(freeze(value, limit)))
    assert calls < 400_000
    assert len(frozen[0]) < 8 * limit + 600_000
    assert "…[cut" in frozen[0].decode() or "[cut: too large]" in frozen[0].decode()


def test_keys_that_read_alike_are_told_apart_in_few_characters() -> None:
    """Objects as keys show their class only."""
    frozen = kept({Slotted(): number for number in range(2_000)})
    assert list(frozen.values()) == list(range(2_000))
    assert max(map(len, frozen)) < len(min(frozen)) + 8


def test_the_work_does_not_grow_with_the_payload() -> None:
    """delivery 12"""

    def calls(size: int) -> int:
        value = [{"n": {number}} for number in range(size)]
        return visited(lambda: freeze(value, LIMIT))

    assert calls(80_000) <= calls(20_000) + 10


def test_a_text_beyond_the_limit_is_cut_with_a_mark() -> None:
    """delivery 12"""
    assert freeze("x" * 11, 10) == "x" * 10 + "…[cut from 11 characters]"
    assert freeze("x" * 10, 10) == "x" * 10
    assert kept(["x" * 100, "y"], 50) == ["x" * 50 + "…[cut from 100 characters]", "…[cut: too large]"]
    assert kept({"a": "x" * 100, "b": "y"}, 50) == {
        "a": "x" * 41 + "…[cut from 100 characters]",
        "…": "[cut: too large]",
    }
    assert kept({"a": {"x" * 100}}, 20)["a"][0].startswith("x")
    assert kept({"k" * 20_000: 1}, 50) == {"k" * 50 + "…[cut from 20000 characters]": "…[cut: too large]"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(st.lists(JSON) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_json_values_come_back_as_they_were(value: Any) -> None:
    frozen = freeze(value, LIMIT)
    assert type(frozen) is bytes
    assert thaw(frozen) == value
    assert json.dumps(thaw(frozen)) == json.dumps(value)  # 1, 1.0 and True are equal, and not the same


@given(JSON)
def test_the_walk_and_the_straight_path_agree(value: Any) -> None:
    walked = kept({"a": value, "b": {1}})["a"]
    straight = kept({"a": value})["a"]

    def texts(value: Any) -> Any:
        """With integers beyond 63 bits as text, which only the straight path can keep."""
        if isinstance(value, list):
            return [texts(item) for item in value]
        if isinstance(value, dict):
            return {key: texts(item) for key, item in value.items()}
        return str(value) if type(value) is int and value >= 2**63 else value

    assert walked == texts(straight)


IDENTIFIERS: list[tuple[Any, str | None]] = [
    ("user_42", "user_42"),
    ("", None),
    (None, None),
    (True, None),
    (False, None),
    (0, "0"),
    (42, "42"),
    (Whole(42), "42"),
    (Level.HIGH, "3"),
    (ID, str(ID)),
    (Text("t"), "t"),
    (1.5, None),
    (b"x", None),
    (["x"], None),
    ("x" * 250, "x" * 250),
    ("x" * 251, "x" * 233 + "~" + hashlib.sha256(b"x" * 251).hexdigest()[:16]),
    ("\ud800", "\ud800"),
]


@pytest.mark.parametrize("number", range(len(IDENTIFIERS)))
def test_an_identifier_is_text_of_at_most_250_characters(number: int) -> None:
    value, expected = IDENTIFIERS[number]
    found = identifier(value)
    assert found == expected
    assert found is None or type(found) is str


@pytest.mark.parametrize("value", ["é" * 251, "\ud800" * 300, 10**6000, "x" * 100_000], ids=range(4))
def test_a_long_identifier_is_cut_and_ends_in_a_stable_hash(value: Any) -> None:
    found = identifier(value)
    assert found is not None
    assert len(found) == 250
    assert found == identifier(value)
    assert found[233] == "~"
    other = identifier(value + 1 if isinstance(value, int) else value + "!")
    assert other is not None
    assert other[:233] == found[:233]
    assert other != found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok ü €", "ok ü €"),
        ("\ud800x", "\ufffdx"),
        ("a\udc00", "a\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_valid_text_is_unicode(text: str, expected: str) -> None:
    assert valid(text) == expected


@given(st.text(st.characters()))
def test_valid_text_can_always_be_encoded(text: str) -> None:
    found = valid(text)
    found.encode()
    assert valid(found) == found


def test_numpy_and_pydantic_are_not_imported() -> None:
    source = (
        importlib.import_module("rootspan.description").__dict__ | importlib.import_module("rootspan.freeze").__dict__
    )
    assert not {"numpy", "pydantic", "attr", "django"} & source.keys()


FLAT = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=6)
CHATS = st.lists(st.dictionaries(st.sampled_from(["role", "content"]) | st.text(), st.text(), max_size=4), max_size=6)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.text(), "content": st.text() | JSON}), max_size=6)


@given(FLAT | CHATS | MESSAGES | st.lists(JSON) | st.dictionaries(st.text(), JSON))
def test_what_the_caller_keeps_becomes_what_it_would_have_frozen(value: Any) -> None:
    """delivery 11"""
    whole, weight_of_it = keep(value, LIMIT)
    assert weight(whole) == weight_of_it
    on_the_worker = freeze(whole, LIMIT) if type(whole) in COPIES else whole
    assert thaw(on_the_worker) == thaw(freeze(value, LIMIT))


@pytest.mark.parametrize(
    "value",
    [
        {"a": "b", "n": float("nan"), 7: True},
        [{"role": "user", "content": "Hi"}],
        [{"content": "Hi", "role": "user"}],
        [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi", "name": "Ada"}],
        {},
        [],
    ],
)
def test_what_the_caller_keeps_does_not_change_any_more(value: Any) -> None:
    """delivery 11"""
    before = thaw(freeze(value, LIMIT))
    whole, _ = keep(value, LIMIT)
    assert type(whole) in COPIES, "flat containers are copied, not written"
    for item in value if isinstance(value, list) else [value]:
        item["later"] = "changed"
    if isinstance(value, list):
        value.append({"later": "changed"})
    assert thaw(freeze(whole, LIMIT)) == before


def test_a_chat_is_kept_in_two_lists_and_comes_out_as_it_was() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    whole, _ = keep(chat, LIMIT)
    assert whole == Chat(["user", "assistant"], ["Hi", "Hello!"])
    assert freeze(whole, LIMIT) == freeze(chat, LIMIT)


@pytest.mark.parametrize(
    "odd",
    [
        {"role": "user", "content": None},
        {"role": "user", "content": ["parts"]},
        {"role": ["user"], "content": "Hi"},
        {"role": "user", "text": "Hi"},
        {"role": "user", "content": "Hi", "name": "Ada"},
        {"role": "user"},
        {7: "user", "content": "Hi"},
        "ab",
    ],
)
def test_one_odd_message_changes_nothing_of_a_chat(odd: Any) -> None:
    """delivery 11"""
    usual = {"role": "user", "content": "Hi"}
    for chat in ([odd], [usual, odd], [odd, usual]):
        whole, _ = keep(chat, LIMIT)
        assert type(whole) is not Chat
        assert (freeze(whole, LIMIT) if type(whole) in COPIES else whole) == freeze(chat, LIMIT)


class Exits(dict[str, str]):
    """A message all of whose own methods end the process."""

    def __len__(self) -> NoReturn:
        raise SystemExit(1)

    __iter__ = __getitem__ = __contains__ = keys = values = items = get = copy = __len__  # type: ignore[assignment]  # all of them raise


class Odd:
    def __len__(self) -> NoReturn:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (Exits(role="user", content="Hi"), {"role": "user", "content": "Hi"}),
        (Text("ab"), "ab"),
        (Odd(), f"<{NAMES}Odd>"),
    ],
    ids=["dict", "text", "object"],
)
def test_keeping_a_list_runs_no_code_of_what_it_holds(odd: Any, expected: Any) -> None:
    """delivery 10"""
    usual = {"role": "user", "content": "Hello!"}
    for value, wanted in (([odd], [expected]), ([usual, odd], [usual, expected]), ([odd, usual], [expected, usual])):
        whole, _ = keep(value, LIMIT)
        assert thaw(freeze(whole, LIMIT) if type(whole) in COPIES else whole) == wanted


class Key(str):
    """A key that is compared by code of its own, which raises."""

    __slots__ = ("raises",)
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> NoReturn:
        raise self.raises


def test_a_key_that_is_compared_by_its_own_code_ends_nothing() -> None:
    """delivery 10"""
    usual, key = {"role": "user", "content": "Hi"}, Key("role")
    chat = [usual, {key: "user", "content": "Hi"}]
    key.raises = SystemExit(1)
    assert thaw(keep(chat, LIMIT)[0]) == [usual, usual]  # type: ignore[arg-type]  # frozen: no chat as it stands
    key.raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        keep(chat, LIMIT)


def test_a_list_with_a_huge_dict_is_not_copied() -> None:
    """delivery 12"""
    whole, _ = keep([{str(number): "x" for number in range(1_001)}], LIMIT)
    assert type(whole) is bytes


def test_what_is_too_long_or_too_odd_to_be_copied_is_frozen_at_once() -> None:
    """delivery 11 and 12"""
    for value in ({"a": {"b": 1}}, [1, 2], [{"a": 1}], {"a": [1]}, {"a": object()}, {"a": "x" * 50}, [{"a": "x" * 50}]):
        whole, size = keep(value, 40)
        assert type(whole) is bytes
        assert size == len(whole)
    assert keep(object, 40)[1] == len(keep(object, 40)[0])  # type: ignore[arg-type]
    assert keep(7, 40) == (7, 0)
