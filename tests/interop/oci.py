"""OCI image layouts, made for tests."""
import gzip, hashlib, io, json, os, subprocess, tarfile

LAYER = 'application/vnd.oci.image.layer.v1.tar'
MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
INDEX = 'application/vnd.oci.image.index.v1+json'
CONFIG = 'application/vnd.oci.image.config.v1+json'


def entry(name, type=tarfile.REGTYPE, body=b'', link='', mode=0o644, uid=0, gid=0, mtime=1000000000, pax=None, dev=(0, 0)):
    t = tarfile.TarInfo(name)
    t.type, t.linkname, t.mode, t.uid, t.gid, t.mtime, t.size = type, link, mode, uid, gid, mtime, len(body)
    t.devmajor, t.devminor = dev
    t.pax_headers = dict(pax or {})
    return t, body


def folder(name, **kw):
    return entry(name, tarfile.DIRTYPE, mode=kw.pop('mode', 0o755), **kw)


def tar(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT, errors='surrogateescape') as t:
        for info, body in entries:
            t.addfile(info, io.BytesIO(body) if body else None)
    return out.getvalue()


def pack(data, how):
    if how == 'gzip':
        return gzip.compress(data, mtime=0)
    if how == 'zstd':
        return subprocess.run(['zstd', '-q', '-c'], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


class Layout:
    def __init__(self, path):
        self.path = str(path)
        os.makedirs(self.path + '/blobs/sha256')
        self.manifests = []
        self.file('oci-layout', {'imageLayoutVersion': '1.0.0'})

    def file(self, name, value):
        with open(self.path + '/' + name, 'wb') as f:
            f.write(value if isinstance(value, bytes) else json.dumps(value).encode())

    def blob(self, data, type, algo='sha256', **more):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = hashlib.new(algo, data).hexdigest()
        os.makedirs('%s/blobs/%s' % (self.path, algo), exist_ok=True)
        self.file('blobs/%s/%s' % (algo, digest), data)
        return {'mediaType': type, 'digest': algo + ':' + digest, 'size': len(data), **more}

    def layer(self, entries, how='', algo='sha256'):
        plain = tar(entries) if not isinstance(entries, bytes) else entries
        d = self.blob(pack(plain, how), LAYER + ('+' + how if how else ''), algo)
        return d, 'sha256:' + hashlib.sha256(plain).hexdigest()

    def manifest(self, layers, os='linux', arch='amd64', **more):
        """layers: what layer() gave. The manifest's descriptor."""
        config = self.blob({'os': os, 'architecture': arch, 'config': {},
                            'rootfs': {'type': 'layers', 'diff_ids': [d for _, d in layers]}}, CONFIG)
        return self.blob({'schemaVersion': 2, 'mediaType': MANIFEST, 'config': config, 'layers': [l for l, _ in layers]},
                         MANIFEST, **more)

    def add(self, descriptor, tag=None):
        if tag:
            descriptor = {**descriptor, 'annotations': {'org.opencontainers.image.ref.name': tag}}
        self.manifests.append(descriptor)
        self.file('index.json', {'schemaVersion': 2, 'mediaType': INDEX, 'manifests': self.manifests})
