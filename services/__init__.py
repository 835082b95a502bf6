"""The rooms of the mesh and what they stand on. Importing this package fixes the process to TLS 1.3."""

import os
import sys

# gRPC reads the variable when it is imported. The one TLS 1.2 suite named needs a pre-shared key that is never
# configured, so no TLS 1.2 handshake can succeed; TLS 1.3 suites are not affected. To be replaced by the channel and
# server options of grpc#43045 and grpc#43080 when they are released. tests/rpc/test_tls_protocol.py holds the fact.
GRPC_CAME_FIRST = "grpc" in sys.modules
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-AES128-CBC-SHA"
