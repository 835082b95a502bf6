"""The `npd` command, for the platform team and for operators. Knows rooms by what they export, and none by name."""
