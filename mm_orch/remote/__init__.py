"""Models that another server runs: asked over HTTP in OpenAI's words."""
