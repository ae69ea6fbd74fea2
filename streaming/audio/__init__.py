"""Bytes as they come off the wire to the engine's audio."""
