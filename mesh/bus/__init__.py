"""Typed topics on Kafka, through which the services exchange facts. The only importer of aiokafka."""

from mesh.bus.bus import Bus, open_bus
from mesh.bus.settings import BusSettings
from mesh.bus.stream import STATUS_SECONDS, Stream
from mesh.bus.tail import Tail
from mesh.delivery import Delivery, OffsetStore, Output, Start

__all__ = [
    "STATUS_SECONDS",
    "Bus",
    "BusSettings",
    "Delivery",
    "OffsetStore",
    "Output",
    "Start",
    "Stream",
    "Tail",
    "open_bus",
]
