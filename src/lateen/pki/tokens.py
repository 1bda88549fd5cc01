"""Service-account tokens: JWTs that a program shows to prove which account it runs as.

Claims are those of Kubernetes' bound tokens (RFC 7519; KEP-1205), signed with ES256 (RFC 7518) by a
key of the mesh's own that never leaves its state directory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lateen.pki.files import private_directory, replace_file

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, KeySetSerialization

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""``iss`` of every token, and its default audience."""
KEY_FILE = "token.key"
LONGEST_LIFETIME = 24 * 3600
SHORTEST_LIFETIME = 600
"""Seconds; Kubernetes' bounds."""


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """Whose token it is: a service account, and the pod it is bound to."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str = ""


class TokenSigner:
    """Signs tokens with the key in ``directory``, which is made when it is not there.

    Raises ``OSError`` when the directory cannot be used and ``ValueError`` for a damaged key file.
    """

    def __init__(self, directory: Path) -> None:
        from joserfc.jwk import ECKey

        path = directory / KEY_FILE
        if path.exists():
            self._key: ECKey = ECKey.import_key(path.read_bytes())
        else:
            private_directory(directory)
            self._key = ECKey.generate_key("P-256", private=True)
            replace_file(path, self._key.as_pem(private=True))

    def sign(
        self, subject: TokenSubject, audiences: Sequence[str] = (), lifetime: int = 3600
    ) -> tuple[str, int]:
        """A token and when it ends (seconds since the epoch). ``lifetime`` is kept in bounds."""
        from joserfc import jwt

        now = int(time.time())
        expires = now + max(SHORTEST_LIFETIME, min(lifetime, LONGEST_LIFETIME))
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{subject.namespace}:{subject.service_account}",
            "aud": list(audiences) or [ISSUER],
            "iat": now,
            "nbf": now,
            "exp": expires,
            "kubernetes.io": {
                "namespace": subject.namespace,
                "pod": {"name": subject.pod, "uid": subject.pod_uid},
                "serviceaccount": {"name": subject.service_account},
            },
        }
        header = {"alg": "ES256", "kid": self._key.thumbprint(), "typ": "JWT"}
        return jwt.encode(header, claims, self._key), expires

    def public_keys(self) -> KeySetSerialization:
        """The key that verifies tokens, as a JWK set (RFC 7517)."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "kid": self._key.thumbprint(), "use": "sig", "alg": "ES256"}]}
