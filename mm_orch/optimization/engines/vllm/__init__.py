"""The stream engine on vLLM: its own batcher and prefix cache behind our contract."""
