"""The variational bottleneck: its loss, its side head, and the tap on one layer's hidden state."""
