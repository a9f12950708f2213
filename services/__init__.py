"""Long-running processes: the scorer replica and the node agent."""
