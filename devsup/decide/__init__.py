"""Pure decisions: no clock, no process, no file. What is true comes in as facts, what is to be done goes out as commands."""
