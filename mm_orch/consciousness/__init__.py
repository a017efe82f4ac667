"""The system's model of itself: what it can do, how sure it is, what it remembers of outcomes."""
