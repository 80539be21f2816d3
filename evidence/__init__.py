"""The paper's tables and figures made anew on the shipped models, by the service's own studies: `make evidence`."""
