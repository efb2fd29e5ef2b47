"""What every page and asset of the gallery tells browsers to forbid. frontend/nginx.conf says the same; a test holds
the two together.
"""

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
# Only features that browsers know: an unknown one is a line in their console.
_DENIED: Final = ("camera", "display-capture", "geolocation", "microphone", "midi", "payment", "usb")

SECURITY: Final = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _DENIED),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The name of an asset holds a hash of its bytes; whatever else is asked for is looked at each time.
IMMUTABLE: Final = "public, max-age=31536000, immutable"
LOOK_AGAIN: Final = "no-cache"
