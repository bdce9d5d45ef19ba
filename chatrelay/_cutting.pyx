# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The loops of chatrelay/cutting.py, compiled: the same arguments, the same results."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy

from chatrelay.wire import MAX_REF_BYTES, is_clean

IMPLEMENTATION = "compiled"

cdef struct Text:
    const char *start
    Py_ssize_t size      # with its LF
    uint32_t group

cdef struct Group:
    const char *target
    Py_ssize_t target_size
    Py_ssize_t texts_size
    Py_ssize_t count
    char *end            # where the next line goes
    uint32_t hash


def find_stretch(bytes block not None, Py_ssize_t start, Py_ssize_t max_line_bytes):
    """See `chatrelay.cutting.find_stretch`."""
    cdef const char *data = PyBytes_AS_STRING(block)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
    cdef Py_ssize_t at = start
    cdef bint fits = True
    cdef const char *line_end
    if not 0 <= start <= size:
        raise ValueError("start is outside of the block")
    while at < size and data[at] == b"%":
        line_end = <const char *> memchr(data + at, b"\n", size - at)
        if line_end == NULL:
            at = size
            break
        if line_end - (data + at) > max_line_bytes:
            fits = False
        at = line_end - data + 1
    if not fits:
        return at, False
    if is_printable_ascii(data + start, at - start):
        return at, True
    # Something that is no plain ASCII: the reference knows what may be relayed.
    return at, is_clean(block[start:at])


cdef bint is_printable_ascii(const char *data, Py_ssize_t size) noexcept nogil:
    # No branch within a stretch of bytes, so that the compiler makes vectors of it.
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t until
    cdef unsigned char code
    cdef unsigned char odd
    while at < size:
        until = at + 4096 if size - at > 4096 else size
        odd = 0
        while at < until:
            code = <unsigned char> data[at]
            # TAB and LF are below the space and allowed; 0x7f and more are not.
            odd |= ((code < 0x20) & (code != 9) & (code != 10)) | (code > 0x7e)
            at += 1
        if odd:
            return False
    return True


def cut_whole(
    bytes block not None, Py_ssize_t max_line_bytes, bytes prefix not None, dict routes not None
):
    """See `chatrelay.cutting.cut_whole`."""
    cdef const char *data = PyBytes_AS_STRING(block)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
    cdef Py_ssize_t line_count = 0
    cdef Py_ssize_t at = 0
    cdef const char *line_end
    # Lines are counted first, so that everything below has its final size.
    while at < size:
        line_end = <const char *> memchr(data + at, b"\n", size - at)
        if data[at] != b"%" or line_end == NULL or line_end - (data + at) > max_line_bytes:
            return None
        line_count += 1
        at = line_end - data + 1
    if line_count == 0 or not (is_printable_ascii(data, size) or is_clean(block)):
        return None
    cdef Py_ssize_t slot_count = 16
    while slot_count < 2 * line_count:
        slot_count *= 2
    cdef Text *texts = <Text *> malloc(line_count * sizeof(Text))
    cdef Group *groups = <Group *> malloc(line_count * sizeof(Group))
    # Slots hold the number of a group and one: nothing is zero.
    cdef uint32_t *slots = <uint32_t *> calloc(slot_count, sizeof(uint32_t))
    try:
        if texts == NULL or groups == NULL or slots == NULL:
            raise MemoryError
        return _cut(data, size, prefix, routes, texts, groups, slots, slot_count - 1)
    finally:
        free(texts)
        free(groups)
        free(slots)


cdef object _cut(
    const char *data,
    Py_ssize_t size,
    bytes prefix,
    dict routes,
    Text *texts,
    Group *groups,
    uint32_t *slots,
    Py_ssize_t mask,
):
    cdef Py_ssize_t prefix_size = PyBytes_GET_SIZE(prefix)
    cdef const char *prefix_data = PyBytes_AS_STRING(prefix)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t text_count = 0
    cdef uint32_t group_count = 0
    cdef uint32_t group_number
    cdef uint32_t hash
    cdef Py_ssize_t slot
    cdef const char *target
    cdef const char *target_end
    cdef const char *line_end
    cdef Py_ssize_t target_size
    cdef Py_ssize_t text_size
    cdef Group *group
    cdef Text *text
    cdef bint has_room = False
    cdef list recipients = []
    while at < size:
        line_end = <const char *> memchr(data + at, b"\n", size - at)
        target = data + at + 1
        target_end = target
        hash = 2166136261u
        while target_end < line_end and target_end[0] != b"%":
            hash = (hash ^ <unsigned char> target_end[0]) * 16777619u
            target_end += 1
        text_size = line_end - target_end
        # No second "%", or nothing behind it.
        if text_size < 2:
            return None
        target_size = target_end - target
        slot = hash & mask
        while True:
            group_number = slots[slot]
            if group_number == 0:
                recipient = routes.get(target[:target_size])
                if recipient is None:
                    return None
                recipients.append(recipient)
                has_room |= target[0] == b"#"
                group = &groups[group_count]
                group.target = target
                group.target_size = target_size
                group.texts_size = 0
                group.count = 0
                group.hash = hash
                group_count += 1
                group_number = group_count
                slots[slot] = group_number
                break
            group = &groups[group_number - 1]
            if (
                group.hash == hash
                and group.target_size == target_size
                and memcmp(group.target, target, target_size) == 0
            ):
                break
            slot = (slot + 1) & mask
        group.count += 1
        group.texts_size += text_size
        text = &texts[text_count]
        text.start = target_end + 1
        text.size = text_size
        text.group = group_number - 1
        text_count += 1
        at = line_end - data + 1
    # Under two writings of its name a recipient's lines would lose their order; and what goes to
    # a room goes to names, too.
    if group_count > 1 and (has_room or len(set(recipients)) != group_count):
        return None
    cdef list cut = []
    for group_number in range(group_count):
        group = &groups[group_number]
        lines = PyBytes_FromStringAndSize(NULL, group.count * prefix_size + group.texts_size)
        group.end = PyBytes_AS_STRING(lines)
        cut.append((recipients[group_number], lines, group.count))
    for at in range(text_count):
        text = &texts[at]
        group = &groups[text.group]
        memcpy(group.end, prefix_data, prefix_size)
        memcpy(group.end + prefix_size, text.start, text.size)
        group.end += prefix_size + text.size
    return cut


cdef Py_ssize_t MOST_REF_BYTES = MAX_REF_BYTES


def cut_confirmed(
    bytes block not None,
    Py_ssize_t start,
    Py_ssize_t max_line_bytes,
    dict routes not None,
    dict known not None,
):
    """See `chatrelay.cutting.cut_confirmed`."""
    cdef const char *data = PyBytes_AS_STRING(block)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
    cdef const char *line
    cdef const char *line_end
    cdef const char *ref_start
    cdef const char *space
    cdef const char *target_start
    cdef const char *target_end
    cdef Py_ssize_t ref_size
    cdef Py_ssize_t target_size
    cdef const char *group_target = NULL
    cdef Py_ssize_t group_target_size = 0
    cdef dict groups = {}
    cdef set seen = set()
    cdef set recipients = set()
    cdef list refs = None
    cdef list texts = None
    if not 0 <= start <= size:
        raise ValueError("start is outside of the block")
    while size - start > 5 and memcmp(data + start, b"@ref=", 5) == 0:
        line = data + start
        line_end = <const char *> memchr(line, b"\n", size - start)
        if line_end == NULL or line_end - line > max_line_bytes:
            break
        ref_start = line + 5
        space = <const char *> memchr(ref_start, b" ", line_end - ref_start)
        if space == NULL:
            break
        ref_size = space - ref_start
        target_start = space + 2
        # A "%", and behind it something.
        if not 1 <= ref_size <= MOST_REF_BYTES or line_end - space < 3 or space[1] != b"%":
            break
        if (
            memchr(ref_start, b";", ref_size) != NULL or memchr(ref_start, b"\t", ref_size) != NULL
        ):
            break
        target_end = <const char *> memchr(target_start, b"%", line_end - target_start)
        if target_end == NULL or line_end - target_end < 2:
            break
        if not (
            is_printable_ascii(line, line_end - line) or is_clean(block[start:line_end - data])
        ):
            break
        ref = ref_start[:ref_size]
        if ref in known or ref in seen:
            break
        target_size = target_end - target_start
        if (
            group_target == NULL
            or group_target_size != target_size
            or memcmp(group_target, target_start, target_size) != 0
        ):
            target = target_start[:target_size]
            group = groups.get(target)
            if group is None:
                recipient = routes.get(target)
                # Under two writings of its name a recipient's lines would lose their order.
                if recipient is None or recipient in recipients:
                    break
                recipients.add(recipient)
                group = (recipient, [], [])
                groups[target] = group
            refs = group[1]
            texts = group[2]
            group_target = target_start
            group_target_size = target_size
        seen.add(ref)
        refs.append(ref)
        texts.append(target_end[1:line_end - target_end])
        start = line_end - data + 1
    return start, [
        (recipient, target, refs, b"\n".join(texts))
        for target, (recipient, refs, texts) in groups.items()
    ]
