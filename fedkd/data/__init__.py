"""Sources of text, the transfer set, and the parties' private rows."""
