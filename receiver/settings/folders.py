"""Whether ``state_dir`` can be used, looked at before anything is made there."""

import os
import stat

from receiver.settings.model import Settings


def state_dir_trouble(settings: Settings) -> str | None:
    """What is wrong with it and what to do, as a sentence; None where this user can use or make it."""
    state_dir = settings.server.state_dir
    for folder in (state_dir, *state_dir.parents):
        try:
            mode = folder.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"server.state_dir: {folder}: {error.strerror}; {_REMEDY}"
        if not stat.S_ISDIR(mode):
            return f"server.state_dir: {folder} is a file; expected a folder, or none yet"
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return f"server.state_dir: {folder} is on a file system that is mounted read-only; {_WRITABLE}"
        if not os.access(folder, (os.R_OK if folder == state_dir else 0) | os.W_OK | os.X_OK):
            return f"server.state_dir: {folder} cannot be read and written by this user (uid {os.geteuid()}); {_REMEDY}"
        return None
    return None


_WRITABLE = "mount it for writing, or set server.state_dir to a folder that can be written"
_REMEDY = "give it to the user that faxhook runs as, or set server.state_dir to a folder of that user's"
