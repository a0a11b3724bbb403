"""One script a claim, each against what one would run otherwise, on the same work."""
