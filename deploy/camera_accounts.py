"""`lares cameras ftp-account`: makes an account by which one camera sends media, over the operator socket."""

from deploy.keys import create
from mesh.addresses import split_address
from mesh.config import Config
from mesh.permissions import UPLOAD
from mesh.ports import reachable_host


async def print_ftp_account(config: Config, camera_id: str) -> None:
    """Prints what to enter in the camera's settings. Raises what `create` raises."""
    secret = await create(config, f"FTP of {camera_id}", [UPLOAD], camera_id)
    if config.ftp_listen:
        host, port = split_address(config.ftp_listen)
        print(f"Server    {config.ftp_passive_address or reachable_host(host)}")
        print(f"Port      {port}")
        print(f"TLS       {_encryption(config)}")
    else:
        print("Server    none yet: set LARES_FTP_LISTEN")
    print(f"User      {camera_id}")
    print(f"Password  {secret}")
    print(
        "The password is not shown again. `lares keys list` shows the account, `lares keys revoke` closes it."
    )


def _encryption(config: Config) -> str:
    if not config.has_tls:
        return "none (others in the network can read passwords and media)"
    return f"explicit (FTPS, AUTH TLS){', or none' if config.ftp_plaintext else ''}"
