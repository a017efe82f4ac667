"""Turns the path's events into spans and sends them away. Imported only when tracing is on."""
