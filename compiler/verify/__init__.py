"""Holding compiled models against a reference, and finding where they differ."""
