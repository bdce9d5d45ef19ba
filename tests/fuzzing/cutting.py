"""
The loops of the quick path on any bytes: the pure and the compiled agree, and do what they say.

What is compiled is not seen by what guides the fuzzer; the pure ones, which it does see, go the
same ways.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest import mock

from chatrelay import cutting, lines
from chatrelay.cutting import Confirmed, Cut
from chatrelay.wire import MAX_REF_BYTES, MAX_TAGS_BYTES, is_clean

compiled: Any
try:
    compiled = import_module("chatrelay._cutting")
except ImportError:
    compiled = None

FUNCTIONS = ("cut_whole", "find_stretch", "cut_confirmed")
PREFIX = b"%me%"
# Short names are found soon; two writings of one name, or room, lead to one recipient.
KNOWN = {b"known": None}
NAMES = [(b"a", "a"), (b"A", "a"), (b"b", "b"), ("ж".encode(), "ж"), (b"x" * 32, "x")]
NAMES += [(b"#a", "#a"), (b"#A", "#a")]
LINE_LENGTHS = [*range(1, 61), 200, 4095, 4096, 8192]
# What a byte that is no control character stands for, so that few make a block that goes deep.
PARTS = [
    *(b"%", b"\n%", b"a", b"A", b"b", "ж".encode(), b"x" * 32, b"c", b",", b"@", b" ", b"/who\n"),
    *(b"%a%", b"%b%", "%ж%".encode(), b"%a%x\n", b"%A%x\n", b"%b%y\n", "%ж%ö\n".encode()),
    *(b"%a%1 %\n", b"%a%\n", b"%a\n", b"%c%x\n", b"%%x\n", b"%a%x\n" * 20, b"%b%x\n" * 5),
    *(b"\x7f", b"\x80", b"\xff", b"\xc2\x85", "\u2028".encode(), "\u2029".encode()),
    *(b"#", b"%#a%", b"%#a%x\n", b"%#A%y\n", b"%#%x\n", b"%##a%x\n", b"%#a%x\n" * 20),
    *(b"z" * 55, b"z" * 4096, b"%b%" + b"y" * 5000, b"%" + b"x" * 32 + b"%x\n"),
    *(b"@ref=", b"@ref=1 ", b"@ref=1 %a%x\n", b"@ref=2 %a%y\n", b"@ref=3 %b%x\n", b"@ref=known "),
    *(b"@ref=4 %A%x\n", b"@ref=" + b"r" * 64, b"@ref=a;b", b"@ref=\t", b"@ref=5 %a%1 %\n"),
]


def check(data: bytes) -> None:
    """
    Fail unless all that is said of the quick path holds for a block made of `data`.

    :param data: how long a line may be, who is here, and the block: as it is, or in parts.
    """
    if len(data) < 2:
        return
    max_line_bytes = LINE_LENGTHS[data[0] % len(LINE_LENGTHS)]
    choice = data[1]
    routes = {name: to for bit, (name, to) in enumerate(NAMES) if not choice >> bit & 1}
    block = data[2:]
    if choice & 0x80:
        block = b"".join(
            PARTS[code % len(PARTS)] if code >= 0x20 else bytes([code]) for code in block
        )
    # What is no lines has no result to compare; it must not be read beyond its end.
    compiled.cut_whole(block, max_line_bytes, block[:choice], routes)
    compiled.find_stretch(block, min(data[0], len(block)), max_line_bytes)
    compiled.cut_confirmed(block, min(data[0], len(block)), max_line_bytes, routes, KNOWN)
    if not block.endswith(b"\n"):
        block += b"\n"
    check_stretches(block, max_line_bytes)
    check_whole(block, max_line_bytes, routes)
    check_confirmed(block, max_line_bytes, routes)
    with mock.patch.multiple(lines, **dict.fromkeys(FUNCTIONS)):
        left = [serve(block, max_line_bytes, routes, by) for by in (cutting, compiled)]
    assert left[0] == left[1], left


def check_stretches(block: bytes, max_line_bytes: int) -> None:
    """Both find the same stretch from every line on; of many lines, the first and the last."""
    starts = [match.start() for match in re.finditer(rb"^%", block, re.MULTILINE)]
    for start in {*starts[:8], *starts[-8:]}:
        results = [by.find_stretch(block, start, max_line_bytes) for by in (cutting, compiled)]
        assert results[0] == results[1], (start, results)


def check_confirmed(block: bytes, max_line_bytes: int, routes: dict[bytes, str]) -> None:
    """Both cut the same lines with refs; of many, from the first and from the last."""
    starts = [match.start() for match in re.finditer(rb"^@", block, re.MULTILINE)]
    for start in {*starts[:8], *starts[-8:]}:
        results = [
            by.cut_confirmed(block, start, max_line_bytes, routes, KNOWN)
            for by in (cutting, compiled)
        ]
        assert results[0] == results[1], (start, results)


def check_whole(block: bytes, max_line_bytes: int, routes: dict[bytes, str]) -> None:
    """Both cut a whole block into the same, which is what it should be."""
    expected = None
    messages = plain_messages(block.split(b"\n")[:-1], max_line_bytes, routes)
    if messages is not None:
        names = {name for name, _ in messages}
        # Under two writings of its name a recipient's lines would lose their order.
        if len(names) == len({routes[name] for name in names}) and stand_alone(names):
            expected = grouped(messages, routes)
    cut = compiled.cut_whole(block, max_line_bytes, PREFIX, routes)
    assert cut == expected, (cut, expected)
    pure_cut = cutting.cut_whole(block, max_line_bytes, PREFIX, routes)
    # The pure one leaves texts with "%" to be cut line by line.
    if pure_cut is not None or block.count(b"%") == 2 * block.count(b"\n"):
        assert pure_cut == cut, (pure_cut, cut)


def stand_alone(targets: Collection[bytes]) -> bool:
    """Whether a room, which delivers to several names, is the only one among them."""
    return len(targets) == 1 or not any(target.startswith(b"#") for target in targets)


def plain_messages(
    written: list[bytes], max_line_bytes: int, routes: dict[bytes, str]
) -> list[tuple[bytes, bytes]] | None:
    """The name and the text in each line; ``None`` if one is no plain message."""
    messages = []
    for line in written:
        match = re.fullmatch(rb"%([^%]*)%(.+)", line, re.DOTALL)
        if match is None or match[1] not in routes:
            return None
        if len(line) > max_line_bytes or not is_clean(line):
            return None
        messages.append((match[1], match[2]))
    return messages


def grouped(messages: list[tuple[bytes, bytes]], routes: dict[bytes, str]) -> Cut[str]:
    """What each recipient is written, in the order of their first lines."""
    texts_of: dict[str, list[bytes]] = {}
    for name, text in messages:
        texts_of.setdefault(routes[name], []).append(text)
    return [
        (recipient, b"".join(PREFIX + text + b"\n" for text in texts), len(texts))
        for recipient, texts in texts_of.items()
    ]


def serve(
    block: bytes, max_line_bytes: int, routes: dict[bytes, str], by: ModuleType
) -> list[bytes]:
    """
    Fail unless every line is served once and in order: cut if it is plain, or taken.

    :returns: the lines that were taken.
    """
    for name in FUNCTIONS:
        setattr(lines, name, getattr(by, name))
    written = block.split(b"\n")[:-1]
    taken: list[bytes] = []
    at = 0
    part = lines.Block(block, max_line_bytes)
    while not part.is_empty:
        if part.begins_with_tags:
            confirmed = part.cut_confirmed(routes, KNOWN)
            count = sum(len(refs) for _, _, refs, _ in confirmed)
            assert count <= len(written) - at, confirmed
            check_served(confirmed, written[at : at + count], max_line_bytes, routes)
            if count:
                part.taken()
                at += count
                continue
        cut = part.cut(PREFIX, routes)
        if cut:
            count = sum(size for _, _, size in cut)
            assert 0 < count <= len(written) - at, cut
            messages = plain_messages(written[at : at + count], max_line_bytes, routes)
            assert messages is not None, cut
            assert cut == grouped(messages, routes), (cut, messages)
            assert stand_alone([recipient.encode() for recipient, _, _ in cut]), cut
            at += count
            continue
        line = part.take_line()
        if isinstance(line, lines.Overlong):
            assert len(written[at]) > max_line_bytes, line
            assert written[at].startswith(line.head), line
            assert written[at].endswith(line.end), line
            assert len(line.head) == min(len(written[at]), MAX_TAGS_BYTES + 1), line
        else:
            assert len(line) <= max_line_bytes, line
            assert line == written[at], line
        taken.append(written[at])
        at += 1
    assert at == len(written), at
    return taken


def check_served(
    confirmed: Confirmed[str], written: list[bytes], max_line_bytes: int, routes: dict[bytes, str]
) -> None:
    """What was cut of lines with refs is all of them, in order for each recipient."""
    refs_and_texts: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for line in written:
        match = re.fullmatch(rb"@ref=([^ ;\t]+) %([^%]*)%(.+)", line, re.DOTALL)
        assert match is not None, line
        assert len(line) <= max_line_bytes, line
        assert is_clean(line), line
        assert len(match[1]) <= MAX_REF_BYTES, line
        refs_and_texts.setdefault(match[2], []).append((match[1], match[3]))
    refs = [ref for pairs in refs_and_texts.values() for ref, _ in pairs]
    assert len(set(refs) - KNOWN.keys()) == len(refs), refs
    assert len({routes[target] for target in refs_and_texts}) == len(refs_and_texts), confirmed
    assert confirmed == [
        (routes[target], target, [ref for ref, _ in pairs], b"\n".join(text for _, text in pairs))
        for target, pairs in refs_and_texts.items()
    ], confirmed
