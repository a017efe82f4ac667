"""What is kept on disk between two starts: conversations, by the key that holds them."""
