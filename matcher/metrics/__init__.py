"""How good predictions are, as the Image Similarity Challenge 2021 measures it, and how well they lie. NumPy only."""
