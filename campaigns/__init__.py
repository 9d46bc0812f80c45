"""Campaigns that try to lose what the journal has promised to keep: simulated power cuts and real kills."""
