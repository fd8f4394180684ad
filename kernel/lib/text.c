/* The growable string behind every printer. */
#include "lib/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `more` bytes and a NUL. */
static bool text_room(struct text *t, size_t more)
{
	size_t need = t->len_bytes + more + 1, cap = t->cap_bytes ? t->cap_bytes : 64;
	char *p;

	if (t->oom)
		return false;
	if (need <= t->cap_bytes)
		return true;
	while (cap < need)
		cap *= 2;
	p = realloc(t->buf, cap);
	if (!p) {
		t->oom = true;
		return false;
	}
	t->buf = p;
	t->cap_bytes = cap;
	return true;
}

void text_add_bytes(struct text *t, const void *p, size_t len_bytes)
{
	if (!text_room(t, len_bytes))
		return;
	memcpy(t->buf + t->len_bytes, p, len_bytes);
	t->len_bytes += len_bytes;
	t->buf[t->len_bytes] = 0;
}

void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !text_room(t, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(t->buf + t->len_bytes, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->len_bytes += (size_t)n;
}

/* Length of the well-formed, printable UTF-8 sequence at s, 0 when there is none. */
static size_t utf8_len(const u8 *s, size_t len)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	u32 cp;

	if (n == 1)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > len)
		return 0;
	cp = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && (cp < 0x800 || (cp >= 0xd800 && cp < 0xe000))) ||
	    (n == 4 && (cp < 0x10000 || cp > 0x10ffff)))
		return 0;
	return cp < 0xa0 ? 0 : n; /* U+0080..U+009F are controls too */
}

void text_add_name(struct text *t, const char *name, size_t len_bytes)
{
	const u8 *s = (const u8 *)name;

	for (size_t i = 0; i < len_bytes;) {
		size_t n = utf8_len(s + i, len_bytes - i);

		if (s[i] == '\\') {
			text_add(t, "\\\\");
			i++;
		} else if (n) {
			text_add_bytes(t, s + i, n);
			i += n;
		} else {
			text_add(t, "\\x%02x", s[i++]);
		}
	}
}

void text_add_uuid(struct text *t, const u8 uuid[16])
{
	for (int i = 0; i < 16; i++)
		text_add(t, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

void text_add_size(struct text *t, u64 bytes)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	u32 u = 0;
	u64 whole = bytes, rest = 0;

	while (whole >= 1024 && u + 1 < ARRAY_SIZE(unit)) {
		rest = whole & 1023;
		whole >>= 10;
		u++;
	}
	if (rest * 10 / 1024)
		text_add(t, "%llu.%llu %s", (unsigned long long)whole, (unsigned long long)(rest * 10 / 1024),
			 unit[u]);
	else
		text_add(t, "%llu %s", (unsigned long long)whole, unit[u]);
}

const char *text_str(const struct text *t)
{
	return t->buf ? t->buf : "";
}

void text_reset(struct text *t)
{
	t->len_bytes = 0;
	t->oom = false;
	if (t->buf)
		t->buf[0] = 0;
}

void text_free(struct text *t)
{
	free(t->buf);
	*t = (struct text){ 0 };
}
