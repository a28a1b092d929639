"""What is handed out and handed in."""
