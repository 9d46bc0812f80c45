"""Watching a running bus from a terminal: `openoutcry status` and `openoutcry top`."""
