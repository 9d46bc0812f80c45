"""Decisions without side effects: time arrives as `now_ns`, verdicts go out."""
