"""Several workers of one model side by side: which gets a request, and how they come and go."""
