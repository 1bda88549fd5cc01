"""A small curl for machines without one: ``python -m lateen.workloads.curl [options] URL...``.

HTTP/1.1 over TCP or TLS, with curl's option names, output and exit statuses, as far as service mesh
tutorials use them; ``lateen exec POD -- curl ...`` runs it where the real curl is not installed.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, Final

from lateen.workloads.curl_options import Options, UsageError, parse
from lateen.workloads.curl_transfer import Answer, Target, Transfer, TransferError, parse_url

_RETRIED: Final = (408, 429, 500, 502, 503, 504)


class _Output:
    """Writes one response where the options say."""

    def __init__(self, options: Options, path: str) -> None:
        self.options = options
        self.path = path
        self.file: BinaryIO | None = None
        self.quiet = False
        self.last = ""
        self.unpack: object = None

    def head(self, raw: bytes, status: int) -> None:
        options = self.options
        if options.verbose:
            for line in raw.decode("latin-1").split("\r\n")[:-1]:
                sys.stderr.write(f"< {line}\n")
        redirected = options.follow and status in (301, 302, 303, 307, 308)
        failed = options.fail and status >= 400
        self.quiet = redirected or failed
        if options.include or options.head:
            self.write(raw)
        if options.dump_header:
            mode = "ab" if self.last else "wb"
            self.last = options.dump_header
            if options.dump_header == "-":
                self.write(raw)
            else:
                with open(options.dump_header, mode) as file:
                    file.write(raw)
        if options.compressed:
            coding = raw.lower().partition(b"\r\ncontent-encoding:")[2].partition(b"\r\n")[0]
            self.unpack = None
            if coding.strip() in (b"gzip", b"deflate"):
                import zlib

                self.unpack = zlib.decompressobj(32 + zlib.MAX_WBITS)

    def body(self, data: bytes) -> None:
        if self.quiet:
            return
        decompress = getattr(self.unpack, "decompress", None)
        self.write(decompress(data) if decompress else data)

    def write(self, data: bytes) -> None:
        try:
            if self.file is None:
                if self.path and self.path != "-":
                    self.file = open(self.path, "wb")  # noqa: SIM115 - closed in close()
                else:
                    self.file = sys.stdout.buffer
            self.file.write(data)
            self.file.flush()
        except OSError as error:
            where = self.path or "standard output"
            raise TransferError(23, f"cannot write to {where}: {error.strerror}") from error

    def close(self) -> None:
        if self.file is not None and self.file is not sys.stdout.buffer:
            self.file.close()


class Curl:
    """One run over all URLs."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cookies: dict[str, dict[str, str]] = {}
        if options.cookie and "=" not in options.cookie:
            self.load_cookies(options.cookie)

    def run(self) -> int:
        """The exit status: that of the last URL that failed, else 0."""
        result = 0
        for index, url in enumerate(self.options.urls):
            path = self.options.output[index] if index < len(self.options.output) else ""
            result = self.one(url, path) or result
        if self.options.cookie_jar:
            self.save_cookies(self.options.cookie_jar)
        return result

    def one(self, url: str, path: str) -> int:
        """Fetch one URL, with its redirects and retries."""
        options = self.options
        output = _Output(options, path)
        started = time.monotonic()
        deadline = started + options.max_time if options.max_time else math.inf
        # A socket's timeout cannot be infinite; a day is.
        deadline = min(deadline, started + 86400.0)
        facts: dict[str, object] = {"url": url, "url_effective": url, "exitcode": 0}
        result, message = 0, ""
        try:
            answer = self.follow(url, output, deadline, facts)
            if (options.fail or options.fail_with_body) and answer.status >= 400:
                result = 22
                message = f"The requested URL returned error: {answer.status}"
        except TransferError as error:
            result, message = error.status, str(error)
        finally:
            output.close()
        if result and (not options.silent or options.show_error):
            sys.stderr.write(f"curl: ({result}) {message}\n")
        facts |= {
            "time_total": f"{time.monotonic() - started:.6f}",
            "exitcode": result,
            "errormsg": message,
        }
        if options.write_out:
            sys.stdout.write(_expand(options.write_out, facts))
            sys.stdout.flush()
        return result

    def follow(
        self, url: str, output: _Output, deadline: float, facts: dict[str, object]
    ) -> Answer:
        """Exchanges until one is neither redirected nor retried."""
        options = self.options
        target = parse_url(url)
        origin = target
        method = options.method
        body = None if options.data_in_query else options.data
        if options.data_in_query and options.data is not None:
            joint = "&" if "?" in target.path else "?"
            target = target._replace(path=f"{target.path}{joint}{options.data.decode()}")
        redirects = attempts = 0
        while True:
            chosen = method or ("HEAD" if options.head else "POST" if body is not None else "GET")
            same = (target.host, target.port, target.scheme) == origin[1:3] + origin[:1]
            request = self.request(target, chosen, body, private=same)
            transfer = Transfer(options, deadline, self.note)
            answer = transfer.run(target, request, head=chosen == "HEAD", sink=output)
            self.keep_cookies(target.host, answer)
            location = answer.header("location")
            facts |= {
                "http_code": f"{answer.status:03}",
                "response_code": f"{answer.status:03}",
                "content_type": answer.header("content-type"),
                "size_download": answer.received,
                "remote_ip": answer.peer[0],
                "remote_port": answer.peer[1],
                "num_redirects": redirects,
                "url_effective": target.url if redirects else facts["url"],
                "redirect_url": _join(target, location) if location else "",
                "time_connect": f"{transfer.connected_after:.6f}",
                "method": chosen,
                "scheme": target.scheme,
                "http_version": "1.1",
                "num_connects": 1,
            }
            if answer.status in _RETRIED and attempts < options.retries:
                attempts += 1
                time.sleep(min(2.0 ** (attempts - 1), 60.0))
                continue
            if not (options.follow and location and 300 <= answer.status < 400):
                return answer
            redirects += 1
            if redirects > options.max_redirects:
                raise TransferError(47, f"Maximum ({options.max_redirects}) redirects followed")
            if answer.status == 303 or (answer.status in (301, 302) and chosen == "POST"):
                body = None
                method = "" if not options.method else method
            target = parse_url(_join(target, location))

    def request(self, target: Target, method: str, body: bytes | None, *, private: bool) -> bytes:
        """The bytes of a request; ``private`` sends credentials, which no other host may see."""
        options = self.options
        given = {name.lower() for name, _ in options.headers} | options.removed_headers
        headers: list[tuple[str, str]] = []

        def default(name: str, value: str) -> None:
            if value and name.lower() not in given:
                headers.append((name, value))

        default("Host", target.authority)
        user = options.user or target.user
        if user and private:
            import base64

            default("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        default("User-Agent", options.user_agent)
        default("Accept", "*/*")
        if options.compressed:
            default("Accept-Encoding", "deflate, gzip")
        default("Cookie", self.cookie_header(target.host))
        if body is not None:
            default("Content-Length", str(len(body)))
            default("Content-Type", "application/x-www-form-urlencoded")
        secret = ("authorization", "cookie")
        headers += [
            (name, value)
            for name, value in options.headers
            if private or name.lower() not in secret
        ]
        proxied = options.proxy and target.scheme == "http"
        version = "HTTP/1.0" if options.http10 else "HTTP/1.1"
        # With --get the whole of the target is asked for; a proxy needs the host in it too.
        lines = [f"{method} {target.url if proxied else target.path} {version}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if options.verbose:
            sys.stderr.write("".join(f"> {line}\n" for line in [*lines, ""]))
        return "\r\n".join([*lines, "", ""]).encode("utf-8") + (body or b"")

    def note(self, line: str) -> None:
        """A line for ``-v``."""
        if self.options.verbose:
            sys.stderr.write(f"{line}\n")

    # --- cookies ----------------------------------------------------------------------------

    def cookie_header(self, host: str) -> str:
        """The Cookie header for a host."""
        pairs = [f"{name}={value}" for name, value in self.cookies.get(host, {}).items()]
        if "=" in self.options.cookie:
            pairs.insert(0, self.options.cookie)
        return "; ".join(pairs)

    def keep_cookies(self, host: str, answer: Answer) -> None:
        """Remember cookies within this run, as curl does once -b or -c is given."""
        if not (self.options.cookie or self.options.cookie_jar):
            return
        kept = self.cookies.setdefault(host, {})
        for name, value in answer.headers:
            if name.lower() != "set-cookie":
                continue
            pair, *attributes = value.split(";")
            key, _, content = pair.strip().partition("=")
            gone = any(each.strip().lower() == "max-age=0" for each in attributes)
            if gone:
                kept.pop(key, None)
            else:
                kept[key] = content

    def load_cookies(self, path: str) -> None:
        """Read a cookie jar in Netscape's format; a missing one is empty, as with curl."""
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.removeprefix("#HttpOnly_").rstrip("\n").split("\t")
                if len(words) == 7 and not words[0].startswith("#"):
                    self.cookies.setdefault(words[0].lstrip("."), {})[words[5]] = words[6]

    def save_cookies(self, path: str) -> None:
        """Write the cookie jar, readable to its owner alone: it may hold a session."""
        lines = ["# Netscape HTTP Cookie File\n"]
        for host, pairs in self.cookies.items():
            lines += [f"{host}\tFALSE\t/\tFALSE\t0\t{name}\t{pairs[name]}\n" for name in pairs]
        if path == "-":
            sys.stdout.write("".join(lines))
            return
        try:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(opened, "w", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            sys.stderr.write(f"curl: cannot write cookies to {path}: {error.strerror}\n")


def _join(target: Target, location: str) -> str:
    from urllib.parse import urljoin

    return urljoin(target.url, location)


def _expand(form: str, facts: dict[str, object]) -> str:
    """``-w``: %{variables}, %% and backslash escapes."""
    import re

    escapes = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}

    def replace(found: re.Match[str]) -> str:
        variable, escape = found.group(1), found.group(2)
        if variable is not None:
            if variable in ("http_code", "response_code"):
                return str(facts.get(variable, "000"))
            return str(facts.get(variable, "0" if variable.startswith(("time_", "size_")) else ""))
        return escapes.get(escape, f"\\{escape}") if escape is not None else "%"

    return re.sub(r"%\{(\w+)\}|\\(.)|%%", replace, form)


def program(arguments: Sequence[str]) -> int:
    """Run; curl's exit status."""
    try:
        options = parse(arguments)
    except UsageError as error:
        sys.stderr.write(f"curl: {error}\n")
        return 2
    try:
        return Curl(options).run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
