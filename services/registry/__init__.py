"""The registry: who is connected and on what ground. Holds no personal data of citizens."""
