"""What NVIDIA's GPUs of this machine are and how they are, as their management library tells."""
