"""Who may use a server, and how much."""
