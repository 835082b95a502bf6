"""A throw-away room: agencies put up notices."""
