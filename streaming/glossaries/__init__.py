"""Glossaries that a server keeps, and what sessions make of them."""
