package filter

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// value is what is compared: a string, a number, true, false or null. It is
// small so that it is passed in registers; a number is read by those who compare
// it.
type value struct {
	kind kind
	yes  bool   // true, of a boolean
	text string // of a string, and of a number as it was sent
}

type kind uint8

const (
	other kind = iota // nothing that JSON knows: equal to nothing
	text
	number
	boolean
	null
)

func valueOf(v any) value {
	switch v := v.(type) {
	case string:
		return value{kind: text, text: v}
	case json.Number:
		return value{kind: number, text: string(v)}
	case bool:
		return value{kind: boolean, yes: v}
	case nil:
		return value{kind: null}
	}
	return value{}
}

// exact is a set of values. Texts and numbers are sorted and each is there once,
// so that many of them cost little more than one.
type exact struct {
	texts          []string
	numbers        []decimal
	yes, no, empty bool // true, false, null
}

func (x *exact) add(v value) {
	switch v.kind {
	case text:
		x.texts = append(x.texts, v.text)
	case number:
		x.numbers = append(x.numbers, parseDecimal(v.text))
	case boolean:
		x.yes, x.no = x.yes || v.yes, x.no || !v.yes
	case null:
		x.empty = true
	}
}

func (x *exact) sort() {
	slices.Sort(x.texts)
	x.texts = slices.Compact(x.texts)
	slices.SortFunc(x.numbers, decimal.compare)
	x.numbers = slices.CompactFunc(x.numbers, func(a, b decimal) bool { return a.compare(b) == 0 })
}

func (x *exact) has(v value) bool {
	switch v.kind {
	case text:
		_, found := slices.BinarySearch(x.texts, v.text)
		return found
	case number:
		if len(x.numbers) == 0 {
			return false
		}
		_, found := slices.BinarySearchFunc(x.numbers, parseDecimal(v.text), decimal.compare)
		return found
	case boolean:
		return v.yes && x.yes || !v.yes && x.no
	case null:
		return x.empty
	}
	return false
}

// test is one operator, ready to run.
type test interface{ fits(v value) bool }

type (
	prefix     string
	suffix     string
	foldWhole  string
	foldPrefix string
	foldSuffix string
)

func (p prefix) fits(v value) bool { return v.kind == text && strings.HasPrefix(v.text, string(p)) }

func (s suffix) fits(v value) bool { return v.kind == text && strings.HasSuffix(v.text, string(s)) }

// Case is ignored character by character, as strings.EqualFold does: ſ, s and S
// are one, ß and SS are not.
func (f foldWhole) fits(v value) bool {
	return v.kind == text && strings.EqualFold(v.text, string(f))
}

func (f foldPrefix) fits(v value) bool {
	if v.kind != text {
		return false
	}
	rest := v.text // upper and lower case may differ in length
	for _, want := range f {
		got, n := utf8.DecodeRuneInString(rest)
		if n == 0 || !sameFold(got, want) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

func (f foldSuffix) fits(v value) bool {
	if v.kind != text {
		return false
	}
	rest := v.text
	for left := string(f); left != ""; {
		want, n := utf8.DecodeLastRuneInString(left)
		left = left[:len(left)-n]
		got, n := utf8.DecodeLastRuneInString(rest)
		if n == 0 || !sameFold(got, want) {
			return false
		}
		rest = rest[:len(rest)-n]
	}
	return true
}

// sameFold reports whether two characters differ in case at most.
func sameFold(a, b rune) bool {
	if a == b {
		return true
	}
	for r := unicode.SimpleFold(a); r != a; r = unicode.SimpleFold(r) {
		if r == b {
			return true
		}
	}
	return false
}

// wildcard holds the texts between the stars; one text when there is no star.
type wildcard []string

// fits takes each text between two stars where it comes first. That is never a
// loss, since what a star swallows does not matter, and so there is nothing to
// go back to.
func (w wildcard) fits(v value) bool {
	if v.kind != text {
		return false
	}
	last := len(w) - 1
	if last == 0 {
		return v.text == w[0]
	}
	rest, ok := strings.CutPrefix(v.text, w[0])
	if !ok {
		return false
	}
	if rest, ok = strings.CutSuffix(rest, w[last]); !ok {
		return false
	}
	for _, part := range w[1:last] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// span is a range of numbers; a bound that is nil is none.
type span struct {
	low, high         *decimal
	lowOpen, highOpen bool // the bound itself is out
}

func (s *span) fits(v value) bool {
	if v.kind != number {
		return false
	}
	n := parseDecimal(v.text)
	if s.low != nil {
		if c := n.compare(*s.low); c < 0 || c == 0 && s.lowOpen {
			return false
		}
	}
	if s.high != nil {
		if c := n.compare(*s.high); c > 0 || c == 0 && s.highOpen {
			return false
		}
	}
	return true
}

// empty reports whether no number is in the range.
func (s *span) empty() bool {
	if s.low == nil || s.high == nil {
		return false
	}
	c := s.low.compare(*s.high)
	return c > 0 || c == 0 && (s.lowOpen || s.highOpen)
}

// blocks are ranges of addresses. They are one test, so that an address is
// read once however many there are.
type blocks []netip.Prefix

// longestAddress is more than any IPv6 address with a zone has.
const longestAddress = 128

func parseBlock(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, false
	}
	// An IPv4 network written as IPv6 is the IPv4 network.
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p, true
}

func (b blocks) fits(v value) bool {
	// Most texts are no addresses, and to be told so by netip is not free.
	if v.kind != text || len(v.text) > longestAddress || !strings.ContainsAny(v.text, ".:") {
		return false
	}
	a, err := netip.ParseAddr(v.text)
	if err != nil {
		return false
	}
	a = a.WithZone("")
	return slices.ContainsFunc(b, func(p netip.Prefix) bool { return p.Contains(a) || p.Contains(a.Unmap()) })
}

// but is anything-but: every value that is none of these.
type but struct {
	exact
	tests []test
}

func (b *but) fits(v value) bool {
	return !b.has(v) && !slices.ContainsFunc(b.tests, func(t test) bool { return t.fits(v) })
}
