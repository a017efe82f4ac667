"""The words every layer shares: errors, requests, tokens, events. Imports nothing above it."""
