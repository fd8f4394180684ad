"""CRC-32C, without the inversions that formats add before and after."""

TABLE = []
for i in range(256):
    c = i
    for _ in range(8):
        c = (c >> 1) ^ (0x82f63b78 if c & 1 else 0)
    TABLE.append(c)


def crc32c(seed, data):
    c = seed
    for b in data:
        c = (c >> 8) ^ TABLE[(c ^ b) & 255]
    return c
