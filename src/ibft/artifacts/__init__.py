"""Every struct that crosses a stage border, with its reader and writer."""
