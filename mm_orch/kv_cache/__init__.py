"""KV memory of one model: which blocks are whose, and what need not be computed again."""
