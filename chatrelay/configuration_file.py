"""
The file of ``--config``: TOML, whose keys are the options' names.

A file is read whole, and everything that is wrong with it is told at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, ValidationError, convert

from chatrelay.configuration import (
    LIMITS_TABLE,
    LOOPBACK,
    MAX_HISTORY_DAYS,
    NONE,
    Bound,
    Problem,
    limit_key,
    read_data,
    read_interface,
    read_name,
)
from chatrelay.errors import ChatrelayError, Refusal

_MAX_SHOWN_CHARACTERS = 40
_MAX_SHOWN_BITS = 64

_Text = Annotated[str, Meta(min_length=1)]
_PortNumber = Annotated[int, Meta(ge=0, le=65_535)]
_Days = Annotated[int, Meta(ge=1, le=MAX_HISTORY_DAYS)]


class _Key(NamedTuple):
    """
    What may stand at a key.

    :ivar type: its type, or that of each of its items.
    :ivar expected: the same for people.
    :ivar read: makes of it what is used; a `ChatrelayError` says what is wrong.
    :ivar list: what it is if it is a list; empty if it is none.
    :ivar least_items: how many such a list has at least.
    """

    type: Any
    expected: str
    read: Callable[[Any], object] = lambda value: value
    list: str = ""
    least_items: int = 0


_FLAG = _Key(bool, "true or false")
_NAMES = _Key(_Text, "a name", read_name, "a list of names")
_KEYS = {
    "ports": _Key(
        _PortNumber | _Text,
        "a port number or an endpoint string",
        str,
        'a list of port numbers and endpoint strings, such as [12345, "tls:12346"]',
        least_items=1,
    ),
    "interface": _Key(_Text, f'an address or "{LOOPBACK}"', read_interface),
    "bots": _Key(_Text, "the name of a bot", list="a list of names of bots"),
    "reserved": _NAMES,
    "operators": _NAMES,
    "public": _FLAG,
    "data": _Key(_Text, f'the path of a directory, or "{NONE}"', read_data),
    "history": _Key(
        _Days | Literal["none"],
        f'a number of days from 1 to {MAX_HISTORY_DAYS}, or "{NONE}"',
        lambda days: 0 if days == NONE else days,
    ),
    "allow-insecure-secrets": _FLAG,
    "verbose": _FLAG,
}


def file_keys(bounds: Sequence[Bound]) -> list[str]:
    """Tell every key that a file may have."""
    return [*_KEYS, *(limit_key(option) for option, *_ in bounds)]


def read_file(path: Path, bounds: Sequence[Bound]) -> tuple[dict[str, Any], list[Problem]]:
    """
    Read a file.

    :param bounds: the limits that it may set.
    :returns: what is right in it, by its keys, as `chatrelay.configuration.put_together` takes
        it; and everything that is wrong with it.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        return {}, [Problem("", f"it can not be read: {error.strerror or error}")]
    except UnicodeDecodeError:
        return {}, [Problem("", "it is not UTF-8")]
    except (ValueError, RecursionError) as error:  # also for a number of 5,000 digits
        return {}, [Problem("", f"it is not TOML: {error}")]
    return _read_document(document, bounds)


def _read_document(
    document: Mapping[str, Any], bounds: Sequence[Bound]
) -> tuple[dict[str, Any], list[Problem]]:
    keys = _KEYS | {
        limit_key(option): _Key(
            Annotated[int, Meta(ge=least, le=most)], f"a whole number from {least} to {most}"
        )
        for option, _, least, most, _ in bounds
    }
    chosen: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in _flattened(document):
        key = keys.get(name)
        if key is not None:
            wrong = [*_wrong(name, value, key)]
            problems += wrong
            if not wrong:
                chosen[name] = _read(value, key)
        elif name == LIMITS_TABLE:
            problems.append(Problem(name, f"{_shown(value)} is not the table [{LIMITS_TABLE}]"))
        else:
            problems.append(Problem(name, _unknown(name, keys)))
    return chosen, problems


def _flattened(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if name == LIMITS_TABLE and isinstance(value, dict):
            yield from ((limit_key(option), limit) for option, limit in value.items())
        else:
            yield name, value


def _wrong(name: str, value: object, key: _Key) -> Iterator[Problem]:
    """Everything that is wrong with what stands at a key."""
    if not key.list:
        yield from _wrong_item(name, value, key)
    elif not isinstance(value, list) or len(value) < key.least_items:
        yield Problem(name, f"{_shown(value)} is not {key.list}")
    else:
        for number, item in enumerate(value):
            yield from _wrong_item(f"{name}[{number}]", item, key)


def _wrong_item(name: str, value: object, key: _Key) -> Iterator[Problem]:
    try:
        key.read(convert(value, key.type))
    except ValidationError:
        yield Problem(name, f"{_shown(value)} is not {key.expected}")
    except Refusal as error:
        yield Problem(name, f"{_shown(value)}: {error.sentence}")
    except ChatrelayError as error:
        yield Problem(name, str(error))


def _read(value: Any, key: _Key) -> object:  # noqa: ANN401 - what the file has
    if not key.list:
        return key.read(value)
    return [key.read(item) for item in value]


def _unknown(name: str, known: Iterable[str]) -> str:
    """Say that there is no such key, and which one may have been meant."""
    table, _, last = name.rpartition(".")
    by_last = {key.rpartition(".")[2]: key for key in known}
    close = get_close_matches(last.replace("_", "-").lower(), [*by_last, LIMITS_TABLE], 1)
    if not close:
        return "there is no such key"
    meant = by_last.get(close[0], "")
    if not meant:
        return f"there is no such key; was [{LIMITS_TABLE}] meant?"
    where = ""
    if meant.rpartition(".")[0] != table:
        where = f", before [{table}]" if table else f", in [{LIMITS_TABLE}]"
    return f"there is no such key; was {close[0]} meant{where}?"


def _shown(value: object) -> str:
    """What stands in a file, for people, on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "[]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > _MAX_SHOWN_BITS:
        return "a number of many digits"
    shown = ascii(value) if isinstance(value, str) else str(value)
    if len(shown) > _MAX_SHOWN_CHARACTERS:
        shown = shown[:_MAX_SHOWN_CHARACTERS] + "…"
    return shown
