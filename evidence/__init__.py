"""The paper's tables and figures reproduced on the shipped models by studies of the service: `make evidence`."""
