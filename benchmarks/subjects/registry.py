"""Subjects by name: what stands in a table, and how it is built in a fresh process.

Imports happen here and only for the subject asked for, so that no bus pays for another's modules.
"""

from importlib import import_module
from typing import Any

from subjects.base import Subject

PEERS = ("nautilus", "vnpy", "pyee", "blinker", "aiopubsub", "bubus")

_CLASSES = {
    "floor": ("subjects.floor", "Floor"),
    "task_floor": ("subjects.floor", "TaskFloor"),
    "call_soon": ("subjects.floor", "CallSoonFloor"),
    "queue_gather": ("subjects.queue_gather", "QueueGather"),
    "openoutcry": ("subjects.openoutcry_bus", "Openoutcry"),
    "nautilus": ("subjects.nautilus", "Nautilus"),
    "vnpy": ("subjects.vnpy_engine", "Vnpy"),
    "pyee": ("subjects.pyee_emitter", "Pyee"),
    "blinker": ("subjects.blinker_signal", "Blinker"),
    "aiopubsub": ("subjects.aiopubsub_hub", "Aiopubsub"),
    "bubus": ("subjects.bubus_bus", "Bubus"),
}


def build(name: str, options: dict[str, Any]) -> Subject:
    module, class_name = _CLASSES[name]
    subject: Subject = getattr(import_module(module), class_name)(**options)
    return subject
