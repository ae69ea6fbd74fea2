"""Making training data, training the retriever's two heads, and measuring them.

Nothing here is imported while serving. ``synthesize``, ``train`` and ``evaluate_retrieval`` are
plain functions with keyword arguments; the ``a2p`` command wraps them.
"""

from __future__ import annotations
