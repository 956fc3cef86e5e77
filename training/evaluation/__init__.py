"""How good the models are: cases with known truth, what is measured of each, tables and pictures for the cards."""
