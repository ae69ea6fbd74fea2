"""TLS: no version that is broken, and a certificate that can be renewed while the server runs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable

import uvicorn

logger = logging.getLogger(__name__)


def hardened(_: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """TLS 1.2 and later alone (RFC 8996 deprecates what is older), else as uvicorn has it."""
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def renew(config: uvicorn.Config) -> None:
    """Read the certificate again; connections from now on get it.

    A certificate that cannot be used is told in the log, and the old one stays.
    """
    certificate, key = config.ssl_certfile, config.ssl_keyfile
    if config.ssl is None or certificate is None:
        return
    try:
        # On trial first: the context in use would be left with a certificate and no key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        config.ssl.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        logger.error("certificate %s cannot be used, the old one stays: %s", certificate, error)
    else:
        logger.info("certificate %s was read again", certificate)
