"""Tools with which a model asks about a firm: read only, answers bounded, text of events marked as data."""
