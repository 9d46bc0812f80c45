"""Desks joined over NATS JetStream (the extra `nats`)."""

from openoutcry.links.nats.transport import NatsTransport

__all__ = ["NatsTransport"]
