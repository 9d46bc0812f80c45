"""The bus on asyncio, in rooms: api, linking, admission, health, durability, control, delivery, rounds.

Imports point down: api to all; linking to all below it; admission and health to durability and delivery;
durability and control to delivery; rounds to nobody. Decisions are made in `core`, which knows neither
asyncio nor the time; the rooms give it the time, wait, call handlers and touch the disk.
docs/architecture.md says where to find what.
"""
