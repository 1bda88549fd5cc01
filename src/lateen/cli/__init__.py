"""The command line: thin over the rest; every module here is one command or a few alike."""
