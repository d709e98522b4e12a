"""Training objectives, one file each: settings, loss, gauges, words and paper. `registry` finds them.

A file here imports no torch: a recipe names objectives, and reading a recipe must not load torch. Losses are written
with the methods of the tensors that they are given; whatever needs a module, a hook or a random generator is in
`ibft.training`, which hands it in.
"""
