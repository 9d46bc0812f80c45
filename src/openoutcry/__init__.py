"""openoutcry."""
