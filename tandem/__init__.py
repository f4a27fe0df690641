"""What every part of Tandem may import: the schema, RPC options, settings, errors, discovery."""
