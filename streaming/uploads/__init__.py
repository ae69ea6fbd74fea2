"""Recordings that are uploaded, captioned and told in the usual forms."""
