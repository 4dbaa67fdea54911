"""A trained detector elsewhere: files for other programs, and what is written about pictures."""
