"""Which engine answers: the engines, and the manager that chooses among them."""
