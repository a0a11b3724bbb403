"""Data: sources of images and masks, the decoded cache, folds, augmentation and batches."""
