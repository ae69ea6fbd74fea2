"""Data, term banks and configurations as they were published with the paper (arXiv 2508.18701)."""
