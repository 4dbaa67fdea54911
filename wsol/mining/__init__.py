"""Attention mining: localise, erase what was found, train on, localise again (Cai et al., arXiv 1807.03215)."""
