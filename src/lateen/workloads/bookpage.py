"""The HTML of Bookinfo's productpage. No scripts, no fonts, nothing fetched from elsewhere."""

from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --ink:#1d2733; --soft:#5c6b7a; --line:#d9e0e7; --paper:#fbfaf7;
  --card:#fff; --sea:#1f6f8b; --wrong:#a33b20; --black:#1d2733; --red:#d1382b; }
@media (prefers-color-scheme: dark) { :root { --ink:#e8ecef; --soft:#9fb0bf; --line:#33414d;
  --paper:#12181e; --card:#1a232b; --sea:#6fc3de; --wrong:#f0907a; --black:#e8ecef;
  --red:#ff6b5e; } }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 ui-sans-serif,system-ui,-apple-system,"Segoe UI",sans-serif }
header { display:flex; gap:1rem; align-items:center; justify-content:space-between;
  padding:.8rem 1.5rem; border-bottom:1px solid var(--line); background:var(--card) }
header a { color:inherit; text-decoration:none; font-weight:600 }
main { max-width:62rem; margin:0 auto; padding:1.5rem }
h1 { font:600 2.1rem/1.2 ui-serif,Georgia,serif; margin:.6rem 0 }
h2 { font-size:1.1rem; margin:0 0 .8rem } a { color:var(--sea) }
.columns { display:grid; gap:1rem; grid-template-columns:repeat(auto-fit,minmax(19rem,1fr)) }
.card { background:var(--card); border:1px solid var(--line); border-radius:.6rem; padding:1.1rem }
dl { display:grid; grid-template-columns:auto 1fr; gap:.25rem 1rem; margin:0 }
dt { color:var(--soft) } dd { margin:0 } blockquote { margin:0 0 1.1rem }
blockquote p { margin:0 0 .3rem } small,.soft { color:var(--soft) }
.wrong h2,.wrong p { color:var(--wrong) }
form { display:flex; gap:.5rem } input,button { font:inherit; padding:.3rem .6rem;
  border:1px solid var(--line); border-radius:.4rem; background:var(--paper); color:inherit }
button { background:var(--sea); color:var(--card); border-color:var(--sea); cursor:pointer }
"""

_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
)
_FACTS: Final = (
    ("type", "Type"),
    ("pages", "Pages"),
    ("publisher", "Publisher"),
    ("language", "Language"),
    ("year", "Year"),
    ("author", "Author"),
    ("ISBN-10", "ISBN-10"),
    ("ISBN-13", "ISBN-13"),
)
MAX_STARS: Final = 5


def escape(value: object) -> str:
    """Text made safe for HTML text and quoted attributes."""
    return str(value).translate(_ESCAPES)


def _page(content: str, user: str | None = None) -> str:
    if user is None:
        session = ""
    elif user:
        session = f'<span>{escape(user)} · <a href="/logout">Sign out</a></span>'
    else:
        session = (
            '<form method="post" action="/login">'
            '<input name="username" placeholder="User name" aria-label="User name" required>'
            "<button>Sign in</button></form>"
        )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Simple Bookstore App</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><a href="/productpage">Bookinfo</a>{session}</header>\n'
        f"<main>\n{content}</main>\n</body>\n</html>\n"
    )


def index() -> str:
    """The start page."""
    return _page(
        "<h1>Bookinfo</h1>\n<p>Four small services that together show one book.</p>\n"
        '<p><a href="/productpage?u=normal">The book as anyone sees it</a></p>\n'
        '<p class="soft">Sign in there as <b>jason</b> to be the test user of the routing rules.'
        "</p>\n"
    )


def not_found() -> str:
    """The page for a path nobody knows."""
    return _page('<h1>Not found</h1>\n<p><a href="/productpage">To the book</a></p>\n')


def product(
    book: dict[str, object],
    details: tuple[int, object],
    reviews: tuple[int, object],
    user: str,
) -> str:
    """The page of one book from the (status, JSON value) of its two backends."""
    return _page(
        f"<h1>{escape(book['title'])}</h1>\n<p>{book['descriptionHtml']}</p>\n"
        f'<div class="columns">\n{_details(*details)}{_reviews(*reviews)}</div>\n',
        user,
    )


def _failure(what: str, value: object) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    message = escape(error or f"product {what} could not be understood")
    return (
        f'<section class="card wrong">\n<h2>Error fetching product {what}</h2>\n'
        f"<p>Sorry: {message}.</p>\n</section>\n"
    )


def _details(status: int, value: object) -> str:
    if status != 200 or not isinstance(value, dict):
        return _failure("details", value)
    facts = "".join(
        f"<dt>{label}</dt><dd>{escape(value[key])}</dd>\n" for key, label in _FACTS if key in value
    )
    return f'<section class="card">\n<h2>Book Details</h2>\n<dl>\n{facts}</dl>\n</section>\n'


def _reviews(status: int, value: object) -> str:
    listed = value.get("reviews") if isinstance(value, dict) else None
    if status != 200 or not isinstance(value, dict) or not isinstance(listed, list):
        return _failure("reviews", value)
    quotes = "".join(_review(each) for each in listed if isinstance(each, dict))
    served = f"Reviews served by: {escape(value.get('podname', ''))}"
    return (
        f'<section class="card">\n<h2>Book Reviews</h2>\n{quotes}'
        f"<small>{served}</small>\n</section>\n"
    )


def _review(review: dict[str, object]) -> str:
    rating = review.get("rating")
    return (
        f"<blockquote>\n<p>“{escape(review.get('text', ''))}”</p>\n"
        f"<small>{escape(review.get('reviewer', ''))}</small>\n{_stars(rating)}</blockquote>\n"
    )


def _stars(rating: object) -> str:
    """Stars out of five in their color, a note when they are unknown, nothing without ratings."""
    if not isinstance(rating, dict):
        return ""
    stars = rating.get("stars")
    if not isinstance(stars, int):
        return f'<p class="soft"><i>{escape(rating.get("error", "no rating"))}</i></p>\n'
    full = max(0, min(MAX_STARS, stars))
    color = escape(rating.get("color", "black"))
    # Black and red follow the color scheme; any other CSS color name is taken as it is.
    ink = f"var(--{color})" if color in ("black", "red") else color
    # The class names are those scripts written for Bookinfo count stars by.
    marks = '<span class="glyphicon glyphicon-star">★</span>' * full
    marks += '<span class="glyphicon glyphicon-star-empty">☆</span>' * (MAX_STARS - full)
    return (
        f'<div class="stars" style="color:{ink}" role="img" '
        f'data-color="{color}" aria-label="{full} of {MAX_STARS} stars, {color}">{marks}'
        "</div>\n"
    )
