"""Answers that take several steps: a graph of steps, its runner, and the workflows themselves."""
