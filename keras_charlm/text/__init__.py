"""From files to characters, their ids, and windows of ids for training."""
