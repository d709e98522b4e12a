"""What leaves the run folder: an arm's weights with their model card, and adapters scaled after training."""
