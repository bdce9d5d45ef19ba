"""How servers that keep messages are spoken to: one module for each of them."""

from __future__ import annotations

from bench.confirming.base import Confirming
from bench.confirming.chatrelay import Chatrelay
from bench.confirming.jetstream import JetStream
from bench.confirming.mosquitto import Mosquitto
from bench.confirming.redis import Redis

CONFIRMING: dict[str, type[Confirming]] = {
    "lines": Chatrelay,
    "jetstream": JetStream,
    "redis": Redis,
    "mqtt": Mosquitto,
}
