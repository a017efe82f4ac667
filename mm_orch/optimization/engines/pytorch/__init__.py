"""The PyTorch engine: any causal language model of transformers, on the CPU and on CUDA."""
