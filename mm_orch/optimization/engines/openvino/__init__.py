"""The stream engine on OpenVINO GenAI: its continuous batching behind the engine contract."""
