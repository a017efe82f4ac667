"""The whole system in simulated time: arrivals, balancing, batching, reuse, failures."""
