"""What a listener experiences, measured."""
