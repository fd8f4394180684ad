/* chmod(1)'s words, one clause after the other on the permissions so far. Interface: mode.h. */
#include "mode.h"

#include <string.h>
#include <sys/stat.h>

#define SET_IDS (S_ISUID | S_ISGID)

/* What a clause works on. */
struct change {
	u32 mode;
	bool is_dir;
	u32 umask;
};

static u32 who_bits(char c)
{
	switch (c) {
	case 'u':
		return S_ISUID | S_IRWXU;
	case 'g':
		return S_ISGID | S_IRWXG;
	case 'o':
		return S_ISVTX | S_IRWXO;
	}
	return c == 'a' ? 07777 : 0;
}

/* What u, g and o have, as if it were everybody's. */
static u32 spread(u32 mode, char c)
{
	u32 three = (c == 'u' ? mode >> 6 : c == 'g' ? mode >> 3 : mode) & 7;

	return three << 6 | three << 3 | three;
}

/* Letters behind an operator, for everybody; how many there were. */
static size_t perm_bits(const char *s, const struct change *c, u32 *bits)
{
	size_t n = strspn(s, "rwxXst");

	*bits = 0;
	if (!n && *s && strchr("ugo", *s)) {
		*bits = spread(c->mode, *s);
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		bool any_x = s[i] == 'x' || (s[i] == 'X' && (c->is_dir || c->mode & 0111));

		*bits |= s[i] == 'r'   ? 0444
			 : s[i] == 'w' ? 0222
			 : s[i] == 's' ? SET_IDS
			 : s[i] == 't' ? S_ISVTX
			 : any_x       ? 0111u
				       : 0;
	}
	return n;
}

/* op is + - or =. */
static void apply(struct change *c, char op, u32 who, u32 bits)
{
	u32 kept = c->is_dir ? SET_IDS & ~(who ? who & bits : bits) : 0;
	u32 set = bits & (who ? who : ~c->umask) & ~kept;

	if (op == '+')
		c->mode |= set;
	else if (op == '-')
		c->mode &= ~set;
	else
		c->mode = (c->mode & (kept | (who ? ~who : 0))) | set;
}

/* [ugoa]*([-+=]([rwxXst]*|[ugo]))+ ; its length, 0: that is none. */
static size_t clause(const char *s, struct change *c)
{
	size_t at = strspn(s, "ugoa"), ops = 0;
	u32 who = 0, bits;

	for (size_t i = 0; i < at; i++)
		who |= who_bits(s[i]);
	while (s[at] && strchr("+-=", s[at])) {
		char op = s[at++];

		at += perm_bits(s + at, c, &bits);
		apply(c, op, who, bits);
		ops++;
	}
	return ops ? at : 0;
}

static bool octal(const char *s, struct change *c)
{
	size_t digits = strspn(s, "01234567");
	u32 v = 0;

	for (size_t i = 0; i < digits && v <= 07777; i++)
		v = v * 8 + (u32)(s[i] - '0');
	if (s[digits] || v > 07777)
		return false;
	c->mode = v | (c->is_dir && digits < 5 ? c->mode & SET_IDS : 0);
	return true;
}

bool mode_change(const char *words, u32 old, bool is_dir, u32 umask, u32 *out)
{
	struct change c = { .mode = old & 07777, .is_dir = is_dir, .umask = umask };
	const char *s = words;

	if (*s >= '0' && *s <= '7') {
		if (!octal(s, &c))
			return false;
	} else {
		for (;;) {
			size_t len = clause(s, &c);

			if (!len || (s[len] && s[len] != ','))
				return false;
			s += len;
			if (!*s)
				break;
			s++;
		}
	}
	*out = c.mode;
	return true;
}
