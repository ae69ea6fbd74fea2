"""A2P Live engine: term retrieval and speech decoding, synchronous and free of I/O."""
