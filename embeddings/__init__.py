"""What a network hears: embeddings and logits. Backbones move in with the next release."""
