"""The engine on ONNX Runtime: exports a model once, then runs it under our batcher and cache."""
