"""Tools with which a model asks about a firm: read only, each answer bounded, text of events marked as data."""
