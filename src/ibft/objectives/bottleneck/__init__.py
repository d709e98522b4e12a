"""The information bottleneck: one small class a form (`forms/`) over shared terms, schedules and alarms."""
