"""What an operator sees and does: metrics, logs, readiness, checks."""
