"""Files come in; characters, their ids and windows of them for training go out."""
