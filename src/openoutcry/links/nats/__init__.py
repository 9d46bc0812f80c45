"""Desks joined over NATS JetStream: the extra `nats`, but for its servers and permissions."""
