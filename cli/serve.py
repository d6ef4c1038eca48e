from __future__ import annotations

import sys

import click

from keras_charlm.display import printable
from keras_charlm.errors import OptionError, brief


@click.command()
@click.argument("model")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 for a free one.",
)
@click.option(
    "--lan",
    is_flag=True,
    help="Let other devices in the network in, and show a QR code of the address.",
)
def serve(model: str, port: int, lan: bool) -> None:
    """Serve MODEL's page and a JSON interface, by default to this machine only.

    POST /generate draws texts, POST /score scores them, GET /health answers while the server runs.

    \b
    kcharlm serve names
    kcharlm serve names --lan
    """
    try:
        from keras_charlm.server import serving
    except ImportError as error:
        raise OptionError(
            f"kcharlm serve needs {error.name}, which is not installed; run "
            "pip install 'keras_charlm[serve]'."
        ) from error
    with serving.listen(port, lan) as server:
        port = server.getsockname()[1]
        host = serving.lan_address() if lan else "127.0.0.1"
        application = serving.prepare(model, [host, "127.0.0.1", "localhost"])
        address = f"http://{host}:{port}/"
        click.echo(f"{printable(brief(model))} is served at {address} until Ctrl-C.", err=True)
        if lan:
            import segno

            segno.make(address).terminal(out=sys.stderr, compact=True)
        serving.run(application, server)
