"""Temperatures, reliability and anomaly scores from logits: arrays in, numbers out, no files.

The same everywhere: logits are (N, K) float32, one row a pixel, the class last; a binary head's
z is (N,) or (N, 1) and stands for two classes with the logits (0, z). Labels are (N,) integers,
255 does not count. ``image`` is (N,) integers from 0, the image that each pixel is from; left
out, all are from one. Natural logarithms: nats. T divides logits: softmax(z / T).
"""
