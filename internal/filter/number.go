package filter

import (
	"cmp"
	"strconv"
	"strings"
)

// decimal is a number of JSON, exactly: 0.<head><tail> times 10 to the power of
// point, with its sign. It holds parts of the text it was read from, so it costs
// no memory of its own.
type decimal struct {
	sign       int    // -1, 0 or 1; the rest is empty when it is 0
	head, tail string // digits; the first and the last one are not 0
	point      int64
}

// far stands for every exponent that is beyond what a pattern's numbers can
// reach (MaxExponent, and MaxBytes of digits). Such a number is smaller or
// larger than any of them, so that is all there is to know about it.
const far = 1 << 60

// parseDecimal reads a number that JSON allows; of other text it makes some
// number or other.
func parseDecimal(s string) decimal {
	d := decimal{sign: 1}
	if strings.HasPrefix(s, "-") {
		d.sign, s = -1, s[1:]
	}
	digits := s
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		digits, d.point = s[:i], exponent(s[i+1:])
	}
	head, tail, _ := strings.Cut(digits, ".")
	head = strings.TrimLeft(head, "0")
	tail = strings.TrimRight(tail, "0")
	if head == "" {
		n := len(tail)
		tail = strings.TrimLeft(tail, "0")
		d.point -= int64(n - len(tail))
	}
	d.point += int64(len(head))
	if tail == "" {
		head = strings.TrimRight(head, "0")
	}
	if head == "" && tail == "" {
		return decimal{}
	}
	d.head, d.tail = head, tail
	return d
}

// exponent reads an exponent; one that is too long for that is far.
func exponent(s string) int64 {
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimLeft(s, "+-0")
	var n int64
	if len(s) > 15 {
		n = far
	} else if s != "" {
		n, _ = strconv.ParseInt(s, 10, 64)
	}
	if negative {
		return -n
	}
	return n
}

// compare returns -1, 0 or 1 for less, equal and greater.
func (d decimal) compare(o decimal) int {
	if c := cmp.Compare(d.sign, o.sign); c != 0 || d.sign == 0 {
		return c
	}
	c := cmp.Compare(d.point, o.point)
	if c == 0 {
		c = d.compareDigits(o)
	}
	return c * d.sign
}

func (d decimal) compareDigits(o decimal) int {
	if len(d.head) == len(o.head) { // mostly: their points are equal
		if c := strings.Compare(d.head, o.head); c != 0 {
			return c
		}
		return strings.Compare(d.tail, o.tail)
	}
	n := len(d.head) + len(d.tail)
	m := len(o.head) + len(o.tail)
	for i := range min(n, m) {
		if c := cmp.Compare(d.digit(i), o.digit(i)); c != 0 {
			return c
		}
	}
	return cmp.Compare(n, m) // the last digit is not 0, so the longer one is greater
}

func (d decimal) digit(i int) byte {
	if i < len(d.head) {
		return d.head[i]
	}
	return d.tail[i-len(d.head)]
}
