"A Hub of data sets and models on the loopback: branches with commits, gates, private repositories, and faults to order."
import hashlib
import json
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


def digest(data: bytes) -> str: return hashlib.sha256(data).hexdigest()


class Hub:
    "What the Hub holds, and how it misbehaves. A model is a repository whose name starts with `models/`."

    def __init__(self):
        self.branches = {}    # (repository, branch) -> {path: bytes}
        self.commits = {}     # (repository, commit) -> {path: bytes}, of every commit there ever was
        self.versions = {}    # (repository, branch) -> how often it was committed to
        self.closed = {}      # repository -> 'gated' or 'private'
        self.faults = []      # dict(path=regular expression, kind='503', '429', 'reset', 'hang' or 'cut', times=number, skip=number)
        self.requests = 0
        server = ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (Handler,), {'hub': self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{server.server_port}'

    def commit(self, repository, files, branch='main'):
        self.branches.setdefault((repository, branch), {}).update(files)
        self.versions[repository, branch] = self.versions.get((repository, branch), 0) + 1
        self.commits[repository, self.head(repository, branch)] = dict(self.branches[repository, branch])

    def head(self, repository, branch='main'): return hashlib.sha1(f'{repository} {branch} {self.versions[repository, branch]}'.encode()).hexdigest()

    def find(self, repository, revision):
        "The commit and files of a revision; none for what is not there."
        if (repository, revision) in self.branches: revision = self.head(repository, revision)
        files = self.commits.get((repository, revision))
        return None if files is None else (revision, files)

    def fail(self, path, kind, times=1, skip=0): self.faults.append(dict(path=path, kind=kind, times=times, skip=skip))


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args): pass

    def answer(self, status, body=b'', **headers):
        if not isinstance(body, bytes): body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({'Content-Length': len(body)} | headers).items(): self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def refuse(self, status, code): self.answer(status, {'error': code}, X_Error_Code=code, X_Error_Message=code)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()
        self.close_connection = True

    def fault(self, path):
        "The kind of fault that this request meets; none for most."
        for fault in self.hub.faults:
            if not fault['times'] or not re.search(fault['path'], unquote(path)) or (fault['kind'] == 'cut' and self.command == 'HEAD'): continue
            if fault['skip']: fault['skip'] -= 1
            else:
                fault['times'] -= 1
                return fault['kind']
        return None

    def do_GET(self):
        length = int(self.headers.get('Content-Length') or 0)
        body, path = self.rfile.read(length), urlsplit(self.path).path
        self.hub.requests += 1
        kind = self.fault(path)
        self.cut = kind == 'cut'
        if kind == 'hang': time.sleep(2.5)
        if kind in ('hang', 'reset'): return self.reset()
        if kind and kind != 'cut': return self.refuse(int(kind), 'Fault')
        found = re.match(r'/(?:api/)?(datasets/|models/|)([^/]+/[^/]+)(?:/(resolve|revision|tree|paths-info)/([^/]+)/?(.*))?$', path)
        if not found: return self.refuse(404, 'NotFound')
        repository, what, revision, inside = found[2], found[3], unquote(found[4] or 'main'), unquote(found[5] or '')
        if found[1] != 'datasets/': repository = f'models/{repository}'
        if self.hub.closed.get(repository) == 'private' or not any(name == repository for name, _ in self.hub.branches): return self.refuse(401, 'RepoNotFound')
        if not (there := self.hub.find(repository, revision)): return self.refuse(404, 'RevisionNotFound')
        commit, files = there
        if what in (None, 'revision'):
            return self.answer(200, dict(id=repository, sha=commit, siblings=[{'rfilename': f} for f in files], private=False, tags=[], downloads=0, likes=0))
        if self.hub.closed.get(repository) == 'gated': return self.refuse(403, 'GatedRepo')
        if what == 'resolve': return self.file(commit, files, inside)
        wanted = json.loads(body)['paths'] if what == 'paths-info' else [f for f in files if f.startswith(inside)]
        self.answer(200, [dict(type='file', path=f, size=len(files[f]), oid=digest(files[f])[:40]) for f in wanted if f in files])

    do_POST = do_HEAD = do_GET

    def file(self, commit, files, path):
        if path not in files: return self.answer(404, {'error': 'Entry not found'}, X_Error_Code='EntryNotFound', X_Error_Message='Entry not found', X_Repo_Commit=commit)
        whole = files[path]
        begin = re.match(r'bytes=(\d+)-$', self.headers.get('Range') or '')
        data = whole[int(begin[1]):] if begin else whole
        headers = dict(X_Repo_Commit=commit, ETag=f'"{digest(whole)[:40]}"', Content_Length=len(data))
        if begin: headers['Content_Range'] = f'bytes {begin[1]}-{len(whole) - 1}/{len(whole)}'
        if not self.cut: return self.answer(206 if begin else 200, data, **headers)
        self.send_response(206 if begin else 200)
        for name, value in headers.items(): self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        self.wfile.write(data[:len(data)//2])
        self.wfile.flush()
        time.sleep(0.1) # or the reset overtakes what was sent
        self.reset()
