"""A trained model comes in; files for phones, servers and browsers go out, each checked."""
