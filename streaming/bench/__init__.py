"""``a2p bench serve``: a real server under real speech at real-time pace."""
