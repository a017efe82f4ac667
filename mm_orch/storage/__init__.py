"""What is kept on disk between two starts: conversations and documents, by their owner's key."""
