"""Networks, their losses and what turns raw maps into boxes."""
