"""The DeepSpeed engine: tensor parallel over local processes."""
