"""A relay on asyncio's streams."""

from __future__ import annotations

import asyncio
import contextlib
import sys

BACKLOG = 4096

_clients: dict[bytes, asyncio.StreamWriter] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client until it is gone."""
    name = (await reader.readline()).rstrip()
    try:
        _clients[name] = writer
        writer.write(b"!welcome %b\n" % name)
        while line := await reader.readline():
            _, target, text = line.split(b"%", 2)
            recipient = _clients.get(target)
            if recipient is not None:
                # One that is gone takes nothing; its own task forgets it.
                with contextlib.suppress(OSError):
                    recipient.write(b"%" + name + b"%" + text)
                    await recipient.drain()
    except (OSError, ValueError):
        pass
    finally:
        _clients.pop(name, None)
        writer.close()


async def main() -> None:
    """Listen on the port given."""
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=BACKLOG)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
