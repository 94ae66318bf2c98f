"""What several test files share: small networks, images, and readers of what a run wrote."""
