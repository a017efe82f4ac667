"""Changes options while the server runs: which, whether they may, and how they reach the parts."""
