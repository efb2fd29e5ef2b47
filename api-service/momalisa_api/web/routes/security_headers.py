"""Security headers of the gallery's pages and assets. frontend/nginx.conf has the same; a test compares the two."""

from typing import Final

_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "media-src": "'self' blob:",
    "connect-src": "'self'",
    "font-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "svelte-trusted-html",
}
# Only features that browsers support: they log a warning for others.
_DENIED: Final = ("camera", "display-capture", "geolocation", "microphone", "midi", "payment", "usb")

SECURITY: Final = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    # Addresses of pages can have prompts, or the token of a link.
    "Referrer-Policy": "strict-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _DENIED),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The name of an asset contains a hash of its content; everything else is revalidated each time.
IMMUTABLE: Final = "public, max-age=31536000, immutable"
REVALIDATE: Final = "no-cache"
# A page whose address has the token of a link.
PRIVATE_PAGE: Final = "private, no-cache"
