"""An opened model in, a web server with its page and a JSON interface out."""
