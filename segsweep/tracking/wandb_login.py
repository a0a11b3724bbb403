"""Which login W&B would use, and what is wrong with it. No key is ever shown.

W&B looks at the environment, then at the netrc file, then at its settings file; its own code is
asked, and where that has moved, the first two are read here.
"""

from __future__ import annotations

import contextlib
import io
import netrc
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segsweep.errors import first_line

DEFAULT = "https://api.wandb.ai"
KEY, TOKEN = "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"

GET_ONE = "copy the key anew, whole, or `wandb login --relogin`"


@dataclass(frozen=True)
class Login:
    """What was found; ``problem`` and ``hint`` are empty where W&B can log in with it."""

    found: str = ""
    problem: str = ""
    hint: str = ""


def look() -> Login:
    """The login, without asking the server."""
    # W&B's own words go nowhere: they may quote what stands beside a key
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            host, stored = _settings()
        except Exception:
            host, stored = os.environ.get("WANDB_BASE_URL") or DEFAULT, None
        return _address(host) or _environment(host) or _netrc(host) or _stored(host, stored)


def _settings() -> tuple[str, str | None]:
    """Address of the server, and the key in the settings file, read as ``wandb.init`` does."""
    import wandb

    settings: Any = wandb.Settings()
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    settings.settings_system = str(Path(folder).expanduser() / "settings")
    settings.update_from_system_settings()
    stored = settings.api_key
    # this one alone, because one odd variable would keep all from being read
    if url := os.environ.get("WANDB_BASE_URL"):
        settings.base_url = url
    return str(settings.base_url), stored


def _environment(host: str) -> Login | None:
    key, token = os.environ.get(KEY), os.environ.get(TOKEN)
    if key and token:
        return Login(problem=f"{KEY} and {TOKEN} are both set", hint="unset one of them")
    if key:
        if what := _malformed(key):
            return Login(problem=f"{KEY} holds no key: {what}", hint=GET_ONE)
        return Login(f"{KEY} is set, for {_name(host)}")
    if token:
        if not Path(token).is_file():
            return Login(problem=f"{TOKEN}: {token} is no file", hint="name the file of the token")
        return Login(f"{TOKEN} is set, for {_name(host)}")
    return None


def _address(host: str) -> Login | None:
    """What is wrong with the server's address, if anything."""
    try:
        from wandb.sdk.lib.wbauth import HostUrl

        HostUrl(host)
    except ImportError:
        return None
    except Exception as error:
        return Login(problem=f"no W&B server: {first_line(error)}", hint="set WANDB_BASE_URL")
    return None


def _netrc(host: str) -> Login | None:
    """The key in the netrc file; None where it has none for the server."""
    path = _netrc_file()
    what = ""
    try:
        from wandb.errors import AuthenticationError
        from wandb.sdk.lib.wbauth import read_netrc_auth
    except ImportError:  # moved
        key = _read_netrc(path, host)
    else:
        try:
            key = read_netrc_auth(host=host) or ""
        except AuthenticationError as error:
            key, what = "malformed", str(error).removesuffix(".")
    if not key:
        return None
    if what := what or _malformed(key):
        told = f"{path} has no key for {_name(host)}: {what}"
        return Login(problem=told, hint=GET_ONE)
    return Login(f"a key for {_name(host)} is in {path}")


def _stored(host: str, key: str | None) -> Login:
    if key and not _malformed(key):
        return Login(f"a key for {_name(host)} is in W&B's settings file")
    return Login(problem=f"no key for {_name(host)}")


def _netrc_file() -> Path:
    if given := os.environ.get("NETRC"):
        return Path(given).expanduser()
    usual, windows = Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()
    return windows if windows.exists() and not usual.exists() else usual


def _read_netrc(path: Path, host: str) -> str:
    try:
        found = netrc.netrc(path).authenticators(_name(host))
    except (OSError, ValueError, netrc.NetrcParseError):
        return ""
    return (found[2] or "") if found else ""


def _malformed(key: str) -> str:
    """What is wrong with a key, in W&B's words, which do not quote it."""
    try:
        from wandb.sdk.lib.wbauth import check_api_key

        return (check_api_key(key) or "").removesuffix(".")
    except ImportError:
        fine = re.fullmatch(r"([\w-]+-)?\w{40,}|[\w-]+\.[\w-]+\.[\w-]+", key)
        return "" if fine else "it is not 40 letters and digits or more"


def _name(host: str) -> str:
    """The server as the netrc file has it: with its port."""
    return urlsplit(host).netloc or host
