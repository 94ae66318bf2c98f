"""The fields of records that camcli reads, as data, and one check of them.

A record is an object in JSON: a row of a manifest, run.json, model.json. Its schema has the kind of
value of each field. Files may be damaged, edited, or written by another program, so a record is
checked once, when it is read. Fields that a schema does not name are kept.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RECORD_BYTES = 64_000_000
"""The size of the largest file that holds one record."""
MAX_DEPTH = 32
"""The deepest nesting of lists and objects."""
_EXACT = 2**53
"""Whole numbers up to it are exact in JavaScript, too."""
_SHOWN = 40
"""The most characters of a given value in a message."""


@dataclass(frozen=True)
class Kind:
    """A kind of value: what is expected, in words, the test of a value, and its JSON Schema.

    The JSON Schema accepts every value of the kind. What it cannot say, the test alone says.
    """

    expected: str
    test: Callable[[Any], bool] = lambda _: True
    json: Mapping[str, Any] = field(default_factory=dict)

    @property
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the kind, of draft 2020-12."""
        return dict(self.json)

    @property
    def accepts(self) -> Callable[[Any], bool]:
        """A function that tells whether a value is of this kind."""
        return self.test if type(self) is Kind else lambda value: self.problem(value, "") is None

    def problem(self, value: Any, where: str) -> str | None:
        """Return what is wrong with the value of the field `where`; None if nothing is."""
        if self.test(value):
            return None
        given = f"{where} is {shortened(value)}, " if where else ""
        return f"{given}expected {self.expected}{'' if where else f', got {shortened(value)}'}"


@dataclass(frozen=True)
class Table(Kind):
    """A kind of objects whose names are data. Their values are all of one kind."""

    test: Callable[[Any], bool] = lambda value: isinstance(value, dict)
    values: Kind = Kind("anything")

    @property
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of objects with such values."""
        return {"type": "object", "additionalProperties": self.values.json_schema}

    def problem(self, value: Any, where: str) -> str | None:
        """Return what is wrong with a table, or with one of its names and values."""
        found = [super().problem(value, where)]
        for name, one in value.items() if found == [None] else ():
            found.append(TEXT.problem(name, f"a name in {where}"))
            found.append(self.values.problem(one, f"{where}.{shortened(name)[1:-1]}"))
        return next(filter(None, found), None)


@dataclass(frozen=True)
class Record(Kind):
    """A kind of objects, with the kinds of their fields. Optional ones may be absent or null."""

    test: Callable[[Any], bool] = lambda value: isinstance(value, dict)
    required: Mapping[str, Kind] = field(default_factory=dict)
    optional: Mapping[str, Kind] = field(default_factory=dict)

    @property
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of such objects, which may have other fields, too."""
        given = {name: kind.json_schema for name, kind in self.required.items()}
        perhaps = {name: _or_null(kind.json_schema) for name, kind in self.optional.items()}
        fields = {"type": "object", "properties": {**given, **perhaps}}
        return {**fields, "required": list(given)} if given else fields

    def problem(self, value: Any, where: str) -> str | None:
        """Return what is wrong with a record, or with one of its fields."""
        if not self.test(value):
            return super().problem(value, where)
        prefix = f"{where}." if where else ""
        for name, kind in self.required.items():
            if name not in value:
                return f"no {prefix}{name}, expected {kind.expected}"
            if found := kind.problem(value[name], prefix + name):
                return found
        for name, kind in self.optional.items():
            one = value.get(name)
            if one is None or (type(kind) is Kind and kind.test(one)):  # in most rows: be quick
                continue
            if found := kind.problem(one, prefix + name):
                return found
        return None

    def parse(self, text: bytes | str) -> dict[str, Any]:
        """Return the record in a text. Raises ValueError, with a message of one line."""
        value = parse_json(text)
        if found := self.problem(value, ""):
            raise ValueError(found)
        record: dict[str, Any] = value
        return record


def choice(values: Iterable[str]) -> Kind:
    """Return the kind of some texts."""
    known = tuple(values)
    return Kind(f"one of {', '.join(known)}", lambda value: value in known, {"enum": [*known]})


def whole(least: int = 0, most: int = _EXACT) -> Kind:
    """Return the kind of whole numbers from `least` to `most`."""
    limits = f"from {least}" if most == _EXACT else f"from {least} to {most}"
    return Kind(
        f"a whole number {limits}",
        lambda n: type(n) is int and least <= n <= most,
        {"type": "integer", "minimum": least, "maximum": most},
    )


def list_of(kind: Kind, least: int = 0, most: int | None = None) -> Kind:
    """Return the kind of lists of `least` to `most` values of a kind."""
    accepts = kind.accepts

    def test(value: Any) -> bool:
        fits = isinstance(value, list) and least <= len(value) <= (most or len(value))
        return fits and all(map(accepts, value))

    counts = {None: "", least: f" of {least}"}.get(most, f" of {least} to {most}")
    length = {"minItems": least} if most is None else {"minItems": least, "maxItems": most}
    schema = {"type": "array", "items": kind.json_schema, **length}
    return Kind(f"a list{counts}, each {kind.expected}", test, schema)


def pair_of(first: Kind, second: Kind) -> Kind:
    """Return the kind of lists of two values."""
    return Kind(
        f"[{first.expected}, {second.expected}]",
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and first.accepts(value[0])
            and second.accepts(value[1])
        ),
        {
            **{"type": "array", "minItems": 2, "maxItems": 2},
            "prefixItems": [first.json_schema, second.json_schema],
        },
    )


def either(*kinds: Kind) -> Kind:
    """Return the kind of the values of several kinds."""
    expected = " or ".join(kind.expected for kind in kinds)
    schemas = [kind.json_schema for kind in kinds]
    accepts = [kind.accepts for kind in kinds]
    return Kind(expected, lambda value: any(test(value) for test in accepts), {"anyOf": schemas})


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of the same values and null."""
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


def _is_text(value: Any) -> bool:
    """Return whether a value is a text. Undecodable bytes of a file name are `\\udcXX`."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        return False


def _is_file_name(value: Any) -> bool:
    if not _is_text(value) or "\0" in value or not value.strip("./"):
        return False
    try:
        return bool(os.fsencode(value))
    except UnicodeEncodeError:  # not in the encoding of the file system
        return False


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


_STRING, _NOT_EMPTY = {"type": "string"}, {"type": "string", "minLength": 1}
TEXT = Kind("text", _is_text, _STRING)
WORD = Kind("text that is not empty", lambda value: value != "" and _is_text(value), _NOT_EMPTY)
FILE_NAME = Kind("the name of a file", _is_file_name, _NOT_EMPTY)
FLAG = Kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})
NUMBER = Kind("a finite number", _is_number, {"type": "number"})
WHOLE, INTEGER = whole(), whole(-_EXACT)


def parse_json(text: bytes | str) -> Any:
    """Return the value in a text of JSON.

    Raises ValueError, with a message of one line, for text that is not JSON, numbers that are not
    finite, an object with a name twice, and nesting deeper than MAX_DEPTH.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def shortened(value: Any) -> str:
    """Return a value of JSON in a few characters, for a message of one line."""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list) and (len(value) > 4 or _is_deep(value, 1)):
        return f"a list of {len(value)}"
    text = json.dumps(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"


def _is_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    level = [value]
    for _ in range(limit):
        within = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for values in within for one in values if isinstance(one, list | dict)]
    return bool(level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{shortened(name)} is there twice")
    return found


def _finite(text: str) -> float:
    if abs(number := float(text)) > sys.float_info.max:
        raise ValueError(f"{text[:_SHOWN]} is too large")
    return number


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_number
)
