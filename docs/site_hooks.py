"""What mkdocs asks while it builds: README.md as the first page, and a page for each file that a page links to.

The pages of docs/ and the README link to files of the repository as a reader of the repository follows them. Here each
of these becomes a page (a source file, as a listing) or a copy, so that the site is whole without the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
MARK = re.compile(r"^<!-- \w+: (?:begin|end) -->$", re.M)
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
COPIED = (".html", ".png", ".json", ".svg")  # shown by the browser as they are
LISTED = {".py": "python", ".toml": "toml", ".cu": "cuda", ".yml": "yaml", "": "text"}


def on_files(files: Any, config: Any) -> Any:
    """Add the README and, from page to page, everything in the repository that is linked to."""
    waiting, seen = ["README.md", *sorted(f"docs/{f.src_uri}" for f in files.documentation_pages())], set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        uri = uri_of(source)
        if not files.get_file_from_path(uri):
            files.append(_file(config, source, uri))
        if source.endswith(".md"):
            text = _text(source)
            waiting += [t for t in (target_of(source, m[2]) for m in LINK.finditer(FENCE.sub("", text))) if t]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as the site has them."""
    source = source_of(page.file.src_uri)
    markdown = MARK.sub("\n", markdown)  # a comment right before a table would make it a paragraph
    if not source.endswith(".md"):
        return markdown
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)  # what is not code, and what is, in turn
    parts[::2] = [LINK.sub(lambda m: _relinked(m, source), part) for part in parts[::2]]
    return "".join(parts)


def on_post_build(config: Any) -> None:
    """Take out what the theme's script would fetch from elsewhere: parts for diagrams, and for searching without a
    server, which these pages do without."""
    scripts = Path(config.site_dir) / "assets" / "javascripts"
    for script in scripts.glob("bundle.*.js"):
        text = script.read_text(encoding="utf-8")
        script.write_text(re.sub(r"https://unpkg\.com/[\w@./-]+", "none.js", text), encoding="utf-8")
    for leftover in (Path(config.site_dir) / "assets").rglob("*.map"):
        leftover.unlink()


def target_of(source: str, link: str) -> str | None:
    """The file of the repository that a link on this page means; None where it leads elsewhere or nowhere."""
    if re.match(r"[a-z]+:", link):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if (ROOT / target).is_dir():
        target += "/README.md"  # where there is none, a list of the files stands for it
        return target
    return target if (ROOT / target).is_file() else None


def uri_of(source: str) -> str:
    """Where a file of the repository lies among the sources of the site."""
    if source == "README.md":
        return "index.md"
    inside = source.removeprefix("docs/")
    if inside != source and not source.endswith(".py"):
        return inside
    suffix = "" if source.endswith((".md", *COPIED)) else ".md"
    return f"repository/{source.replace('README.md', 'index.md').replace('/.', '/').lstrip('.')}{suffix}"


_SOURCES: dict[str, str] = {}  # the way back, for what uri_of has moved


def source_of(uri: str) -> str:
    return _SOURCES.get(uri, f"docs/{uri}")


def _text(source: str) -> str:
    """What the file holds; of a folder without a README, its files."""
    path = ROOT / source
    if path.name != "README.md" or path.exists():
        return path.read_text(encoding="utf-8")
    names = sorted(file.name for file in path.parent.iterdir() if file.is_file())
    return "\n".join([f"# {posixpath.dirname(source)}", "", *(f"- [{name}]({name})" for name in names), ""])


def _relinked(match: re.Match[str], source: str) -> str:
    target = target_of(source, match[2])
    if target is None:
        return match[0]
    here = posixpath.dirname(uri_of(source))
    return match[1] + posixpath.relpath(uri_of(target), here or ".") + match[3]


def _file(config: Any, source: str, uri: str) -> File:
    _SOURCES[uri] = source
    path = ROOT / source
    if source.endswith(COPIED):
        return File.generated(config, uri, abs_src_path=str(path))
    text = _text(source)
    if not source.endswith(".md"):
        fence = LISTED.get(path.suffix, "text")
        text = f"---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n````{fence}\n{text}````\n"
    return File.generated(config, uri, content=text)
