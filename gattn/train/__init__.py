"""``gattn train``: train a graph attention network, alone or beside PyTorch Geometric's layer."""
