"""A corpus of an invented province and questions on it: what retrieval is measured on."""
