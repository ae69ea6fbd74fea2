"""A2P Live streaming: sockets, sessions, segments and events around the synchronous engine."""
