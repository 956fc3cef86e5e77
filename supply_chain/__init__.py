"""What the shipped environment is made of: lock files, bill of materials, licences. Run from a checkout."""
