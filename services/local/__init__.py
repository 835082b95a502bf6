"""What runs the mesh on one machine: database, certificates, processes, synthetic people. Never used in production."""
