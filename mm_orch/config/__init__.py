"""The whole configuration: schema, file, environment, precedence, faults."""
