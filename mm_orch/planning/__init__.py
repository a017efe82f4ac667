"""Says how many replicas a load needs, and simulates the system that would serve it."""
