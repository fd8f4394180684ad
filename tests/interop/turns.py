"""Who takes turns on a volume with another: what he does to it, and whether he finds what the other left."""
import os
import manifest


def work(root, r, n, values=(1, 40, 180)):
    """Something of everything, at random; what is there already is taken up, but for what lies in keep…. values: how long those of attributes are."""
    files = [os.path.join(d, f) for d, _, fs in os.walk(root) for f in fs]
    files = [f for f in files if not os.path.islink(f) and '/keep' not in f]
    dirs = [d for d, _, _ in os.walk(root) if 'lost+found' not in d and '/keep' not in d]
    for i in range(n):
        kind = r.randrange(14)
        path = '%s/%d-%s' % (r.choice(dirs), r.getrandbits(40), 'x' * r.choice([1, 10, 60, 200]))
        if kind < 4 or not files:
            with open(path, 'wb') as f:
                f.write(r.randbytes(r.choice([0, 30, 100, 5000, 70000, 300000])))
                if r.random() < 0.3:
                    f.seek(r.choice([0, 10000, 10 << 20]))
                    f.write(b'sparse' * 100)
            files.append(path)
        elif kind == 4:
            os.mkdir(path)
            dirs.append(path)
        elif kind == 5:
            os.symlink('t' * r.choice([5, 59, 60, 61, 500]), path)
        elif kind == 6:
            old = files.pop(r.randrange(len(files)))
            os.rename(old, path)
            files.append(path)
        elif kind == 7:
            os.unlink(files.pop(r.randrange(len(files))))
        elif kind == 8:
            os.setxattr(r.choice(files), 'user.%d' % r.randrange(4), r.randbytes(r.choice(values)))
        elif kind == 9:
            os.link(r.choice(files), path)
            files.append(path)
        elif kind == 10:
            os.truncate(r.choice(files), r.choice([0, 77, 4096, 100000]))
        elif kind == 11:
            f = r.choice(files)
            os.chmod(f, r.randrange(0o1000))
            os.chown(f, r.randrange(70000), r.randrange(70000))
        elif kind == 12:
            os.utime(r.choice(files), ns=(r.randrange(2 ** 62) % (2 ** 32 * 10 ** 9), r.randrange(2 ** 31) * 10 ** 9))
        else:
            with open(r.choice(files), 'r+b') as f:
                f.seek(r.randrange(100000))
                f.write(r.randbytes(r.randrange(1, 20000)))


def many_names(root, n):
    os.mkdir(root + '/many')
    for i in range(n):
        os.close(os.open('%s/many/a rather long name so that blocks fill up %07d' % (root, i), os.O_CREAT | os.O_WRONLY))
    for i in range(0, n, 3):
        os.unlink('%s/many/a rather long name so that blocks fill up %07d' % (root, i))


def seen(root):
    """All but times of access, which looking moves."""
    out = manifest.take(root, holes=False)
    for d in out.values():
        del d['atime']
    return out


def same(want, got):
    """Blocks are counted alike once all is on the volume; the last one of a file just written, and up to three that lead to it, may not be there yet."""
    for p in want.keys() & got.keys():
        if 0 < got[p]['blocks'] - want[p]['blocks'] <= 4 * 8:
            want[p]['blocks'] = got[p]['blocks']
    differences = manifest.differences(want, got)
    assert not differences, '\n'.join(differences)
