"""Decisions without side effects: time is passed in as `now_ns`, and verdicts come out."""
