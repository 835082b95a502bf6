"""What civil status does: one method per use case, a class per noun. Each owns its transaction."""
