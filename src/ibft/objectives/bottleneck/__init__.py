"""The information bottleneck: one small class per form (`forms/`) over shared terms, schedules and alarms."""
