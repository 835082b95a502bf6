"""What every room must agree on about a person: the PIN's form, partial dates, texts and how names are compared."""
