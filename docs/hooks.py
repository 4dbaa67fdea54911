"""What mkdocs does not do by itself.

Pages may link to files of the repository outside docs/. The site holds these under `repository/`; two files that would
have one place in the site end the build. A line `--8<-- "results/x.md"` is replaced with that file, whose links keep
their meaning.
"""

import posixpath
import re
import subprocess
from collections import Counter
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PLACE = "repository"
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s]+)(?=\))")
INCLUDE = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
LEFT_OUT = ("docs/", ".", "tests/", "mkdocs.yml")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what git tracks outside docs/; Markdown becomes pages. Of tests, only those that a page names are wanted."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    named = set(
        re.findall(r"\]\(\.\./(tests/[^)]+)\)", "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md")))
    )
    for name in [name for name in tracked if name and not name.startswith(LEFT_OUT)] + sorted(named):
        if (ROOT / name).is_file():
            own = File.generated(config, f"{PLACE}/{name}", abs_src_path=str(ROOT / name))
            if f"{name.removesuffix('.md')}/README.md" in tracked:  # a.md beside a/README.md
                own.dest_uri = f"{PLACE}/{name.removesuffix('.md')}.html"
            files.append(own)
    for folder in sorted({posixpath.dirname(name) for name in tracked if posixpath.dirname(name).endswith("/logs")}):
        rows = [f"- [{path.name}]({path.name})" for path in sorted((ROOT / folder).iterdir())]
        page = "\n".join([f"# {folder}", "", *rows])
        files.append(File.generated(config, f"{PLACE}/{folder}/README.md", content=page))
    places = Counter(file.dest_uri for file in files)
    if twice := [place for place, count in places.items() if count > 1]:
        raise PluginError(f"{len(twice)} places of the site have two files, the first is {twice[0]}")
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is included, and turn links to files of the repository into links within the site."""
    uri = page.file.src_uri
    source = uri.removeprefix(f"{PLACE}/") if uri.startswith(f"{PLACE}/") else f"docs/{uri}"

    def included(found: re.Match[str]) -> str:
        return linked((ROOT / found[1]).read_text(), found[1], uri)

    return INCLUDE.sub(included, linked(markdown, source, uri))


def linked(markdown: str, source: str, uri: str) -> str:
    """The text of a file of the repository, with links for the page that shows it.

    Args:
        source: the file, from the repository's root.
        uri: the page.
    """

    def inside(found: re.Match[str]) -> str:
        target, mark, anchor = found[2].partition("#")
        path = posixpath.normpath(posixpath.join("/", posixpath.dirname(source), target)).lstrip("/")
        if (ROOT / path).is_dir():
            path += "/README.md"
        place = path.removeprefix("docs/") if path.startswith("docs/") else f"{PLACE}/{path}"
        return found[1] + posixpath.relpath(place, posixpath.dirname(uri) or ".") + mark + anchor

    return LINK.sub(inside, markdown)
