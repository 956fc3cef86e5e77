"""TLS for DIMSE (PS3.15 B.12): contexts, certificates from files, and the handshake on a socket."""
