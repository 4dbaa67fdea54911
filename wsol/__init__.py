"""Ways of other papers to get a box from a classifier, on the same backbones, in one table."""
