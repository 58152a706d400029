"""The FTP session of one camera, by pyftpdlib 2.2.0. Each runs on a thread of its own, so it may block.

Private parts of pyftpdlib are used here, because it sends 226 before its hooks run: a data connection tells
the session how it ended when it is closed (`_resp`), and that is where a file is made durable first.
"""

import asynchat
import errno
import time
from collections import OrderedDict
from typing import Any, ClassVar

import structlog
from OpenSSL import SSL
from pyftpdlib.exceptions import _RetryError
from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop

from ingest_svc.receiving.ftp.camera_uploads import KeptFile, Upload
from ingest_svc.receiving.ftp.paths import BadName, is_unfinished, parts, resolved
from mesh.problems import Problem

log = structlog.get_logger(__name__)

LOGIN_SECONDS, IDLE_SECONDS, STALLED_SECONDS = 30, 300, 60
# In which somebody must have logged in who sends commands meanwhile.
LONGEST_LOGIN_SECONDS = 120
MAX_LOGINS = 3
MAX_REMEMBERED = 1000
RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_NAME = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)

COMMANDS = (
    *("ABOR", "ALLO", "APPE", "CDUP", "CWD", "DELE", "EPRT", "EPSV", "FEAT", "LIST", "MDTM", "MKD", "MLSD"),
    *("MODE", "NLST", "NOOP", "OPTS", "PASS", "PASV", "PORT", "PWD", "QUIT", "REIN", "REST", "RNFR", "RNTO"),
    *("SIZE", "STAT", "STOR", "STOU", "STRU", "SYST", "TYPE", "USER", "XCUP", "XCWD", "XMKD", "XPWD"),
)
NOT_ALLOWED = ("RETR", "RMD", "XRMD", "SITE", "MFMT", "MFCT", "MLST", "HELP", "CCC", "SMNT", "ACCT")


def reply_of(error: OSError) -> str:
    """The reply for a file that cannot be written."""
    if error.errno in FULL:
        return "452 There is no space left."
    if error.errno == errno.EFBIG:
        return "552 The file is too large."
    if error.errno == errno.EBUSY:
        return "450 The file is being written."
    if error.errno == errno.EINVAL:
        return f"554 {error.strerror}."
    if error.errno in NO_NAME:
        return "553 There cannot be such a file."
    return "451 The file cannot be stored now."


class Receiver(DTPHandler):
    """A data connection. What it receives is durable before the reply 226."""

    timeout = STALLED_SECONDS
    file_obj: Upload | None

    def __init__(self, sock: Any, cmd_channel: Any) -> None:
        self._ended = False
        super().__init__(sock, cmd_channel)

    def recv(self, buffer_size: int) -> bytes:
        try:
            data: bytes = self.socket.recv(buffer_size)
        except OSError as error:
            if error.errno in RETRY:
                raise _RetryError from error
            # pyftpdlib takes a reset connection for the file's end.
            self._fail("426 The data connection broke.")
            return b""
        if not data:
            self.handle_close()
        return data

    def handle_read(self) -> None:
        """Changes no line ends: many cameras send pictures without TYPE I."""
        try:
            chunk = self.recv(self.ac_in_buffer_size)
        except _RetryError:
            return
        if not chunk or self.file_obj is None:
            return
        self.tot_bytes_received += len(chunk)
        try:
            self.file_obj.write(chunk)
        except OSError as error:
            self._fail(reply_of(error))

    handle_read_event = handle_read

    def handle_error(self) -> None:
        log.exception("FTP transfer failed")
        self._fail("451 Internal error.")

    def close(self) -> None:
        upload = self.file_obj
        if not self._ended and self.receive and self.transfer_finished and upload is not None:
            self._ended = True
            self._resp = (self._keep(upload), self.log)
        super().close()

    def _keep(self, upload: Upload) -> str:
        """Returns the reply."""
        try:
            kept = upload.keep()
        except OSError as error:
            log.warning("file sent by FTP not kept", path=upload.path, error=str(error))
            return reply_of(error)
        self.cmd_channel.remember(upload.path, kept)
        return "226 The file is stored."

    def _fail(self, reply: str) -> None:
        self._ended = True
        self._resp = (reply, self.log)
        self.close()


class TlsReceiver(TLS_DTPHandler, Receiver):
    handle_error = Receiver.handle_error

    def recv(self, buffer_size: int) -> bytes:
        try:
            return Receiver.recv(self, buffer_size)
        except SSL.WantReadError as error:
            self._ssl_want_read = True
            raise _RetryError from error
        except SSL.WantWriteError as error:
            self._ssl_want_write = True
            raise _RetryError from error
        except SSL.ZeroReturnError:
            self.handle_close()
        except SSL.SysCallError as error:
            # Many cameras end the connection without TLS's own farewell.
            if error.args[1:] == ("Unexpected EOF",):
                self.handle_close()
            else:
                self._fail("426 The data connection broke.")
        return b""


class Session(FTPHandler):
    """`server` is the FtpServer: its accounts, uploads and limits."""

    dtp_handler = Receiver
    proto_cmds: ClassVar[dict[str, Any]] = {
        name: FTPHandler.proto_cmds[name] | {"perm": None} for name in COMMANDS
    }
    banner = "Lares takes media of cameras."
    timeout = LOGIN_SECONDS
    encoding, unicode_errors = "utf8", "surrogateescape"
    use_sendfile = False

    authenticated: bool
    username: str
    password: str
    attempted_logins: int
    data_channel: Any
    _idler: Any
    _in_dtp_queue: Any
    _restart_position: int

    def __init__(self, sock: Any, server: Any, ioloop: IOLoop) -> None:
        self._cwd, self._folder = "/", ""
        # What this session has sent, by the path that the camera knows it by.
        self._sent: OrderedDict[str, KeptFile] = OrderedDict()
        super().__init__(sock, server, ioloop)
        self.passive_ports = server.passive_ports
        # What PASV tells; EPSV tells no address.
        self.masquerade_address = server.passive_address or None
        if self.connected:
            self.call_later(LONGEST_LOGIN_SECONDS, self._require_login)
        self._available_facts = self._current_facts = ["type", "size", "modify"]

    def push(self, data: str) -> None:
        asynchat.async_chat.push(self, data.encode(self.encoding, self.unicode_errors))

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        if cmd in NOT_ALLOWED:
            self.respond("550 This account may only send files.")
            return
        try:
            super().pre_process_command(line, cmd, arg)
        except BadName as problem:
            self.respond(f"553 {problem}.")
        except OSError as error:
            log.warning("FTP command failed", command=cmd, camera_id=self.username, error=str(error))
            self.respond(reply_of(error))

    # Lares logs itself what matters.
    def log(self, *_: object, **__: object) -> None: ...

    logline = logerror = log_cmd = log_transfer = log

    def log_exception(self, _instance: object) -> None:
        log.exception("FTP session failed", address=self.remote_ip)

    # --- Login

    def ftp_USER(self, line: str) -> None:
        super().ftp_USER(line)
        self._cwd, self._folder = "/", ""
        self._sent.clear()

    def ftp_PASS(self, line: str) -> None:
        if self.authenticated or not self.username:
            self.respond("503 Send USER first." if not self.username else "503 You are logged in.")
            return
        try:
            self._folder = self.server.login(self.username, line, self.remote_ip)
        except Problem as problem:
            self._refuse_login(problem)
            return
        self.attempted_logins, self.authenticated, self.password = 0, True, line
        self.timeout = IDLE_SECONDS
        if self._idler is not None and not self._idler.cancelled:
            self._idler.cancel()
        self._idler = self.ioloop.call_later(self.timeout, self.handle_timeout, _errback=self.handle_error)
        self.respond("230 Welcome.")

    def _require_login(self) -> None:
        if not self.authenticated:
            self.handle_timeout()

    def _refuse_login(self, problem: Problem) -> None:
        self.attempted_logins += 1
        self.username = ""
        if problem.retryable:
            self.respond("421 The password cannot be checked now.")
            self.close_when_done()
            return
        self.respond("530 Login incorrect.")
        if self.attempted_logins >= MAX_LOGINS:
            self.close_when_done()

    # --- Files

    def ftp_STOR(self, line: str) -> None:
        offset, self._restart_position = self._restart_position, 0
        self._receive(self._path(line), "STOR", "", offset)

    def ftp_APPE(self, line: str) -> None:
        self._restart_position = 0
        self._receive(self._path(line), "APPE", "", None)

    def ftp_STOU(self, line: str) -> None:
        self._restart_position = 0
        path = self._path(f"{line or 'upload'}.{time.monotonic_ns():x}")
        self._receive(path, "STOU", f"FILE: {parts(path)[-1]}", 0)

    def ftp_REST(self, line: str) -> None:
        if not line.isascii() or not line.isdecimal() or len(line) > 18:
            self.respond("501 This is no position.")
            return
        self._restart_position = int(line)
        self.respond(f"350 Going on at {int(line)}.")

    def _receive(self, path: str, command: str, text: str, offset: int | None) -> None:
        """Receives a file by the data connection that PASV or PORT has made, or is making."""
        if not self._may_transfer():
            return
        upload = self.server.uploads.start(self._folder, path, offset)
        if self.data_channel is not None:
            self.respond(f"125 {text or 'Send it.'}")
            self.data_channel.file_obj = upload
            self.data_channel.enable_receiving("i", command)
        else:
            self.respond(f"150 {text or 'Send it.'}")
            self._in_dtp_queue = (upload, command)

    def _may_transfer(self) -> bool:
        """Replies if there cannot be a transfer now."""
        self._drop_waiting()
        if self.data_channel is not None and self.data_channel.file_obj is not None:
            self.respond("450 Another file is being sent.")
        elif self.data_channel is None and self._dtp_acceptor is None and self._dtp_connector is None:
            self.respond("425 Use PASV or PORT first.")
        elif not self.server.still_welcome(self.username, self.password):
            self.respond("530 This account is closed.")
            self.close_when_done()
        else:
            return True
        return False

    def _drop_waiting(self) -> None:
        """Forgets a file whose data connection never came."""
        if self._in_dtp_queue is not None:
            self._in_dtp_queue[0].close()
            self._in_dtp_queue = None

    def _shutdown_connecting_dtp(self) -> None:
        super()._shutdown_connecting_dtp()
        self._drop_waiting()

    def remember(self, path: str, kept: KeptFile) -> None:
        self._sent[path] = kept
        while len(self._sent) > MAX_REMEMBERED:
            self._sent.popitem(last=False)
        log.info("file received by FTP", camera_id=self.username, path=kept.path, size=kept.size)

    def ftp_RNFR(self, line: str) -> None:
        path = self._path(line)
        self._rnfr = path if path in self._sent else None
        self.respond("350 Send RNTO." if self._rnfr else "550 You have sent no such file.")

    def ftp_RNTO(self, line: str) -> None:
        """A file whose name says that it is unfinished is taken in by its new name only. Any other is being
        taken in already, so it keeps its name, or else it would be told of twice."""
        source, self._rnfr = self._rnfr, None
        if source is None:
            self.respond("503 Send RNFR first.")
            return
        target, kept = self._path(line), self._sent[source]
        if kept.path and is_unfinished(parts(kept.path)[-1]):
            path = self.server.uploads.rename(self._folder, kept.path, target)
            kept = KeptFile(path, kept.size, kept.at)
        del self._sent[source]
        self._sent[target] = kept
        self.respond("250 Renamed.")

    def ftp_DELE(self, line: str) -> None:
        """Cameras remove the file by which they have tested the account. It was not kept."""
        kept = self._sent.get(self._path(line))
        if kept is None or kept.path:
            self.respond("550 This account may only send files.")
        else:
            self.respond("250 Removed.")

    def ftp_SIZE(self, line: str) -> None:
        path = self._path(line)
        kept = self._sent.get(path)
        size = kept.size if kept else self.server.uploads.arrived(self._folder, path)
        self.respond("550 You have sent no such file." if size is None else f"213 {size}")

    def ftp_MDTM(self, line: str) -> None:
        kept = self._sent.get(self._path(line))
        if kept is None:
            self.respond("550 You have sent no such file.")
        else:
            self.respond(time.strftime("213 %Y%m%d%H%M%S", time.gmtime(kept.at)))

    # --- Folders: they are made when a file is written to them, so every one seems to be there

    def ftp_CWD(self, line: str) -> None:
        self._cwd = self._path(line or "/")
        self.respond("250 Changed.")

    def ftp_CDUP(self, _line: str) -> None:
        self.ftp_CWD("..")

    def ftp_PWD(self, _line: str) -> None:
        self.respond('257 "{}"'.format(self._cwd.replace('"', '""')))

    def ftp_MKD(self, line: str) -> None:
        self.respond('257 "{}"'.format(self._path(line).replace('"', '""')))

    def ftp_LIST(self, line: str) -> None:
        self._list(line, _long_line)

    def ftp_NLST(self, line: str) -> None:
        self._list(line, lambda name, _: name)

    def ftp_MLSD(self, line: str) -> None:
        self._list(line, lambda name, kept: f"type=file;size={kept.size};modify={_stamp(kept)}; {name}")

    def _list(self, line: str, form: Any) -> None:
        """Lists what this session has sent into a folder, or the file of this path."""
        given = "" if line.startswith("-") else line
        path = self._path(given or self._cwd)
        below = path.rstrip("/") + "/"
        lines = [
            form(sent.rpartition("/")[2], kept)
            for sent, kept in self._sent.items()
            if sent == path or sent.rpartition("/")[0] + "/" == below
        ]
        if self._may_transfer():
            text = "".join(f"{entry}\r\n" for entry in lines)
            self.push_dtp_data(text.encode(self.encoding, self.unicode_errors), cmd="LIST")

    def ftp_STAT(self, _line: str) -> None:
        self.respond("211 Lares takes media of cameras.")

    def _path(self, line: str) -> str:
        return resolved(self._cwd, line)


class TlsSession(TLS_FTPHandler, Session):
    """A session that can, or must, be encrypted (AUTH TLS, PROT P)."""

    dtp_handler = TlsReceiver
    proto_cmds: ClassVar[dict[str, Any]] = Session.proto_cmds | {
        name: TLS_FTPHandler.proto_cmds[name] for name in ("AUTH", "PBSZ", "PROT")
    }

    def __init__(self, sock: Any, server: Any, ioloop: IOLoop) -> None:
        super().__init__(sock, server, ioloop)
        self.tls_control_required = self.tls_data_required = not server.plaintext

    def get_ssl_context(self) -> SSL.Context:
        """Called once in a session, so its data connections show the certificate of its commands."""
        context: SSL.Context = self.server.encryption.context()
        return context

    def ftp_AUTH(self, line: str) -> None:
        super().ftp_AUTH(line)
        if self._ssl_requested:
            self.flush_account()
            # What somebody has put behind AUTH in plain text is no command of the encrypted session.
            self.ac_in_buffer = b""

    def ftp_PROT(self, line: str) -> None:
        if self.tls_data_required and line.upper() == "C":
            self.respond("534 Data must be encrypted.")
        else:
            super().ftp_PROT(line)


def _long_line(name: str, kept: KeptFile) -> str:
    at = time.strftime("%b %d %H:%M", time.gmtime(kept.at))
    return f"-rw-------   1 camera   camera   {kept.size:>12} {at} {name}"


def _stamp(kept: KeptFile) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(kept.at))
