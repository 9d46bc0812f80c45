"""The link of a bus: exports what this desk makes, imports what others make, holds its seat.

Without a `Link` in the settings nothing of this room is made.
"""
