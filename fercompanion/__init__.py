"""fercompanion."""
