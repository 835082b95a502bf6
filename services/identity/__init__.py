"""Identity: personal identification numbers and identity cards. Keeps no portrait and no biometrics."""
